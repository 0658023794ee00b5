//! Messages on the tokens' channel, as the scripts publish them: words, and behind them a sealed value.

use std::time::Duration;

/// A message on the tokens' channel.
#[derive(Debug, Clone, Copy)]
pub struct Message<'a> {
    /// The name that it is about.
    pub name: &'a str,
    /// What it says.
    pub news: News<'a>,
}

/// What a message says.
#[derive(Debug, Clone, Copy)]
pub enum News<'a> {
    /// A value was published.
    Value(Pushed<'a>),
    /// A lease was given back.
    Free,
    /// The refresh token of a value is being used.
    RefreshTokenUsed {
        /// The value's number.
        number: u64,
        /// Who uses it.
        by: &'a str,
    },
}

/// A value in a message.
#[derive(Debug, Clone, Copy)]
pub struct Pushed<'a> {
    /// Its number.
    pub number: u64,
    /// How long ago its token was issued when it was published.
    pub age: Duration,
    /// When it was published, by the store's clock, in milliseconds.
    pub at: u64,
    pub(crate) sealed: &'a [u8],
}

/// What a message on the tokens' channel says; None where it says nothing.
#[must_use]
pub fn read_message(payload: &[u8]) -> Option<Message<'_>> {
    let mut words = payload.splitn(6, |byte| *byte == b' ');
    let mut text = || std::str::from_utf8(words.next()?).ok();
    let (kind, name) = (text()?, text()?);
    let mut number = || text()?.parse().ok();
    let news = match kind {
        "free" => News::Free,
        "used" => News::RefreshTokenUsed {
            number: number()?,
            by: text()?,
        },
        "value" => {
            let (number, age, at) = (number()?, number()?, number()?);
            News::Value(Pushed {
                number,
                age: Duration::from_millis(age),
                at,
                sealed: words.next()?,
            })
        }
        _ => return None,
    };
    Some(Message { name, news })
}
