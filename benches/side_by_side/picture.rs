//! The picture: CPU per request, work by work, one bar for each proxy.

use std::path::Path;

use crate::measure::Figures;

const WIDTH: f64 = 760.0;
const LEFT: f64 = 110.0;
const BAR: f64 = 18.0;
const GAP: f64 = 6.0;
const TITLE: f64 = 30.0;
/// Room for a bar's figure.
const RIGHT: f64 = 130.0;

/// One work: its name, and each proxy's figures.
pub(crate) type Group<'a> = (&'a str, Vec<(&'a str, &'a Figures)>);

pub(crate) fn write(file: &Path, groups: &[Group<'_>]) -> std::io::Result<()> {
    let (mut y, mut marks) = (TITLE + 10.0, String::new());
    for (work, bars) in groups {
        marks += &format!(
            "<text x=\"10\" y=\"{}\" font-weight=\"bold\">{work}</text>\n",
            y + 14.0
        );
        y += TITLE - 6.0;
        let most = bars
            .iter()
            .map(|(_, run)| run.user_us + run.system_us)
            .fold(1.0, f64::max);
        let scale = (WIDTH - LEFT - RIGHT) / most;
        for (peer, run) in bars {
            let (user, system) = (run.user_us * scale, run.system_us * scale);
            let (text, end) = (y + 13.0, LEFT + user + system + 6.0);
            marks += &format!(
                "<text x=\"{}\" y=\"{text}\" text-anchor=\"end\">{peer}</text>\
                 <rect x=\"{LEFT}\" y=\"{y}\" width=\"{user:.1}\" height=\"{BAR}\" fill=\"#1f6f8b\"/>\
                 <rect x=\"{:.1}\" y=\"{y}\" width=\"{system:.1}\" height=\"{BAR}\" fill=\"#b8cdd4\"/>\
                 <text x=\"{end:.1}\" y=\"{text}\">{:.1} µs ({:.1} user)</text>\n",
                LEFT - 8.0,
                LEFT + user,
                run.user_us + run.system_us,
                run.user_us,
            );
            y += BAR + GAP;
        }
        y += GAP * 2.0;
    }
    let picture = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{y}\" font-family=\"sans-serif\" font-size=\"13\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
         <text x=\"10\" y=\"22\">CPU per request: user (dark) and system (light); less is better</text>\n{marks}</svg>\n"
    );
    std::fs::write(file, picture)
}
