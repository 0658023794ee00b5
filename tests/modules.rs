//! Modules import downwards only: inside a crate there is no cycle of imports, and no child imports its parent's
//! items while the parent uses the child. Between crates cargo sees to that.
#![cfg(test)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// A module by its path below the root of its crate, which is empty.
type Module = Vec<String>;
/// The modules of a crate, and which others each imports.
type Graph = BTreeMap<Module, BTreeSet<Module>>;

#[test]
fn no_modules_of_a_crate_import_each_other() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut cycles = Vec::new();
    let mut count = 0;
    for (name, root, files) in crates(root) {
        let graph = graph(&root, &files);
        count += graph.len();
        cycles.extend(cycles_of(&graph).iter().map(|cycle| shown(&name, cycle)));
    }
    assert!(count > 100, "{count} modules were found");
    assert!(cycles.is_empty(), "\n{}", cycles.join("\n"));
}

/// What the modules of `src` and the crates import of each other, as the page on the architecture draws it.
#[test]
fn the_layers_in_the_book_are_those_of_the_imports() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (name, root, files) in crates(root) {
        let is_library = name == "bursar";
        for file in files {
            let below = file.strip_prefix(&root).unwrap().with_extension("");
            let own = match (&*name, below.iter().next().unwrap().to_str().unwrap()) {
                (_, "lib") if is_library => continue,
                ("bursar", wing) => wing,
                ("bursar (program)", _) => "program",
                (name, _) => name,
            };
            let text = std::fs::read_to_string(&file).unwrap();
            let imports = found.entry(own.to_owned()).or_default();
            imports.extend(layers(&text, is_library).filter(|other| other != own));
        }
    }
    let page = std::fs::read_to_string(root.join("docs/src/architecture.md")).unwrap();
    let lines = page.lines().filter_map(|line| line.split_once(" <- "));
    let drawn = lines.map(|(own, others)| {
        let own = own.split_whitespace().last().unwrap().to_owned();
        (own, others.split_whitespace().map(str::to_owned).collect())
    });
    // What tests alone use is not drawn.
    found.retain(|own, imports| own != "testkit" && !imports.is_empty());
    assert_eq!(drawn.collect::<BTreeMap<_, BTreeSet<_>>>(), found);
}

/// The crates that a text names, and the modules at the top of `src`.
fn layers(text: &str, is_library: bool) -> impl Iterator<Item = String> {
    let tokens = without_tests(tokens(text));
    let at = move |index: usize| tokens.get(index).cloned().unwrap_or_default();
    (0..)
        .map_while(move |index| {
            let token = at(index);
            let is_of_src = token == if is_library { "crate" } else { "bursar" };
            match token.strip_prefix("bursar_") {
                Some(member) => Some(Some(member.to_owned())),
                None if is_of_src && at(index + 1) == "::" => Some(Some(at(index + 2))),
                None => (!token.is_empty()).then_some(None),
            }
        })
        .flatten()
}

#[test]
fn a_cycle_is_found_in_every_way_to_write_an_import() {
    let module = |path: &str| -> Module { path.split("::").map(str::to_owned).collect() };
    let modules: BTreeSet<Module> = ["a", "a::b", "c", "c::d"].map(module).into();
    for (text, expected) in [
        ("use crate::c::d::E;", "c::d"),
        ("use crate::{a, c::{self as x, d::{E, F}}};", "c c::d"),
        ("use super::c::*;", "c"),
        ("fn f() { super::c::g() }", "c"),
        ("fn f() -> crate::c::G { b::h() }", "c a::b"),
        ("pub(in crate::c) struct A; // crate::c::d\n", ""),
        ("const A: &str = \"crate::c::d\"; const B: char = '\"';", ""),
        ("#[cfg(test)]\nmod tests { use crate::c::d; }", ""),
        ("use other::c::d; use a::c;", ""),
    ] {
        let found = imports(&module("a"), text, &modules);
        let expected = expected.split_whitespace().map(module).collect();
        assert_eq!(found, expected, "{text}");
    }
    let graph = |edges: [(&str, &str); 3]| -> Graph {
        let edges = edges.map(|(from, to)| (module(from), BTreeSet::from([module(to)])));
        edges.into()
    };
    assert_eq!(
        cycles_of(&graph([("a", "c"), ("c", "c::d"), ("c::d", "e")])),
        Vec::<Vec<Module>>::new()
    );
    let cycle = ["a", "c", "c::d", "a"].map(module).to_vec();
    assert_eq!(
        cycles_of(&graph([("a", "c"), ("c", "c::d"), ("c::d", "a")])),
        [cycle]
    );
}

/// Each crate's name, the directory of its modules and its files without those of tests.
fn crates(root: &Path) -> Vec<(String, PathBuf, Vec<PathBuf>)> {
    let source = root.join("src");
    let is_programs = |file: &PathBuf| {
        let below = file.strip_prefix(&source).unwrap();
        below == Path::new("main.rs")
            || below.starts_with("commands")
            || below.ends_with("commands.rs")
    };
    let (program, library) = files_below(&source).into_iter().partition(is_programs);
    let mut crates = vec![
        ("bursar (program)".to_owned(), source.clone(), program),
        ("bursar".to_owned(), source, library),
    ];
    for member in std::fs::read_dir(root.join("crates")).unwrap() {
        let member = member.unwrap();
        let source = member.path().join("src");
        let files = files_below(&source);
        let name = member.file_name().into_string().unwrap();
        crates.push((name, source, files));
    }
    crates
}

fn files_below(directory: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.file_stem().is_some_and(|stem| stem == "tests") {
            continue;
        }
        if path.is_dir() {
            files.extend(files_below(&path));
        } else if path.extension().is_some_and(|end| end == "rs") {
            files.push(path);
        }
    }
    files
}

fn graph(root: &Path, files: &[PathBuf]) -> Graph {
    let module = |file: &PathBuf| -> Module {
        let below = file.strip_prefix(root).unwrap().with_extension("");
        let parts = below.iter().map(|part| part.to_str().unwrap().to_owned());
        parts
            .filter(|part| part != "lib" && part != "main")
            .collect()
    };
    let modules: BTreeSet<Module> = files.iter().map(module).collect();
    let edges = files.iter().map(|file| {
        let text = std::fs::read_to_string(file).unwrap();
        let own = module(file);
        let imports = imports(&own, &text, &modules);
        (own, imports)
    });
    edges.collect()
}

/// Which other modules the text of a module names.
fn imports(own: &Module, text: &str, modules: &BTreeSet<Module>) -> BTreeSet<Module> {
    let tokens = without_tests(tokens(text));
    let mut found = BTreeSet::new();
    for at in 0..tokens.len() {
        let before = at.checked_sub(1).map(|at| &*tokens[at]);
        // Of a path that began earlier, or a visibility.
        let is_inside = before == Some("::")
            || before == Some("in") && at.checked_sub(2).is_some_and(|at| tokens[at] == "(");
        if is_inside || tokens.get(at + 1).map(String::as_str) != Some("::") {
            continue;
        }
        let child = [own.clone(), vec![tokens[at].clone()]].concat();
        let start = match &*tokens[at] {
            "crate" => Module::new(),
            "super" => own[..own.len().saturating_sub(1)].to_vec(),
            "self" => own.clone(),
            _ if modules.contains(&child) => child,
            _ => continue,
        };
        let mut paths = Vec::new();
        tree(&tokens, at + 2, &start, &mut paths);
        for mut path in paths {
            // The longest beginning that is a module has the item that is meant.
            while !modules.contains(&path) && path.pop().is_some() {}
            if modules.contains(&path) && path != *own {
                found.insert(path);
            }
        }
    }
    found
}

/// Reads the rest of a path or of a tree of paths; says where it ends.
fn tree(tokens: &[String], mut at: usize, prefix: &Module, paths: &mut Vec<Module>) -> usize {
    let token = |at: usize| tokens.get(at).map_or("", String::as_str);
    let mut path = prefix.clone();
    loop {
        match token(at) {
            "super" => drop(path.pop()),
            "self" | "*" => {}
            "{" => {
                at += 1;
                while !matches!(token(at), "}" | "") {
                    at = tree(tokens, at, &path, paths);
                    while !matches!(token(at), "," | "}" | "") {
                        at += 1;
                    }
                    at += usize::from(token(at) == ",");
                }
                return at + 1;
            }
            name => path.push(name.to_owned()),
        }
        at += 1;
        if token(at) != "::" {
            paths.push(path);
            return at;
        }
        at += 1;
    }
}

/// Words, `::` and single characters, without comments, strings and characters in quotes.
fn tokens(text: &str) -> Vec<String> {
    let bytes: Vec<char> = text.chars().collect();
    let get = |at: usize| bytes.get(at).copied().unwrap_or('\0');
    let mut tokens = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let begin = at;
        let is_word = |one: char| one.is_alphanumeric() || one == '_';
        match get(at) {
            '/' if get(at + 1) == '/' => {
                while !matches!(get(at), '\n' | '\0') {
                    at += 1;
                }
            }
            '"' => {
                at += 1;
                while !matches!(get(at), '"' | '\0') {
                    at += 1 + usize::from(get(at) == '\\');
                }
                at += 1;
            }
            '\'' if get(at + 1) == '\\' || get(at + 2) == '\'' => {
                at += 2;
                while !matches!(get(at), '\'' | '\0') {
                    at += 1;
                }
                at += 1;
            }
            ':' if get(at + 1) == ':' => {
                at += 2;
                tokens.push("::".to_owned());
            }
            one if is_word(one) => {
                while is_word(get(at)) {
                    at += 1;
                }
                let word: String = bytes[begin..at].iter().collect();
                let hashes = (at..).take_while(|at| get(*at) == '#').count();
                if matches!(&*word, "r" | "br") && get(at + hashes) == '"' {
                    let end: String = std::iter::once('"')
                        .chain("#".repeat(hashes).chars())
                        .collect();
                    let rest: String = bytes[at + hashes + 1..].iter().collect();
                    let inside = rest.split(&end).next().unwrap_or_default();
                    at += hashes + 1 + inside.chars().count() + end.len();
                } else {
                    tokens.push(word);
                }
            }
            one => {
                at += 1;
                if !one.is_whitespace() {
                    tokens.push(one.to_string());
                }
            }
        }
    }
    tokens
}

/// Leaves out what `#[cfg(test)]` stands before.
fn without_tests(tokens: Vec<String>) -> Vec<String> {
    const ONLY_TESTS: [&str; 7] = ["#", "[", "cfg", "(", "test", ")", "]"];
    let mut kept = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        if !tokens[at..].starts_with(&ONLY_TESTS.map(str::to_owned)) {
            kept.push(tokens[at].clone());
            at += 1;
            continue;
        }
        at += ONLY_TESTS.len();
        let mut depth = 0;
        while let Some(token) = tokens.get(at) {
            at += 1;
            match &**token {
                "{" => depth += 1,
                "}" => depth -= 1,
                _ => {}
            }
            if depth == 0 && matches!(&**token, ";" | "}") {
                break;
            }
        }
    }
    kept
}

/// A cycle for each import that closes one, from a module back to it.
fn cycles_of(graph: &Graph) -> Vec<Vec<Module>> {
    let (mut cycles, mut done) = (Vec::new(), BTreeSet::new());
    for module in graph.keys() {
        visit(graph, module, &mut Vec::new(), &mut done, &mut cycles);
    }
    cycles
}

fn visit(
    graph: &Graph,
    module: &Module,
    way: &mut Vec<Module>,
    done: &mut BTreeSet<Module>,
    cycles: &mut Vec<Vec<Module>>,
) {
    if let Some(at) = way.iter().position(|earlier| earlier == module) {
        cycles.push([&way[at..], std::slice::from_ref(module)].concat());
        return;
    }
    if done.contains(module) {
        return;
    }
    way.push(module.clone());
    for next in graph.get(module).into_iter().flatten() {
        visit(graph, next, way, done, cycles);
    }
    way.pop();
    done.insert(module.clone());
}

fn shown(name: &str, cycle: &[Module]) -> String {
    let names = cycle.iter().map(|module| match module.is_empty() {
        true => "(root)".to_owned(),
        false => module.join("::"),
    });
    format!("{name}: {}", names.collect::<Vec<_>>().join(" -> "))
}
