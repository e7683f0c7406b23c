//! Reads the imports of one crate from its syntax: the file that names an item, the module that it is named
//! through, and the file that defines it.
//!
//! Names are resolved through modules and re-exports. Items that only the compiler can resolve, such as
//! methods and types that are never named, need no import.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use anyhow::{Context as _, Result};
use proc_macro2::{TokenStream, TokenTree};
use syn::visit::{self, Visit};

use crate::tidy::file::File;

/// One item of another file that a file names.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Import {
    /// The file that names the item.
    pub(super) from: String,
    /// The path that names the item, from the root of the crate.
    pub(super) path: String,
    /// The file whose module the item is named through.
    pub(super) through: String,
    /// The file that defines the item, after all re-exports.
    pub(super) defined_in: String,
}

impl fmt::Display for Import {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} -> {}", self.from, self.path)
    }
}

/// The modules of one crate, by their paths from its root.
pub(super) struct Crate {
    modules: BTreeMap<ModulePath, Module>,
}

type ModulePath = Vec<String>;

/// The names that one file declares and uses.
#[derive(Default)]
struct Module {
    file: String,
    /// Names that `use` declares, with the paths that they stand for. Other files may name items through them.
    aliases: BTreeMap<String, ModulePath>,
    /// Every path within the crate that the shipped part of the file names, from the crate's root.
    named: BTreeSet<ModulePath>,
}

impl Crate {
    /// Reads the files of one `src/` folder.
    pub(super) fn parse(source: &str, files: &[&File]) -> Result<Self> {
        let mut parsed = Vec::new();
        for file in files {
            let syntax = syn::parse_file(&file.text).with_context(|| file.path.clone())?;
            parsed.push((module_path(source, &file.path), file.path.clone(), syntax));
        }
        let known: BTreeSet<ModulePath> = parsed.iter().map(|(path, ..)| path.clone()).collect();
        let mut modules = BTreeMap::new();
        for (path, file, syntax) in parsed {
            let mut reader =
                Reader { known: &known, within: path.clone(), read: Module { file, ..Module::default() } };
            reader.visit_file(&syntax);
            modules.insert(path, reader.read);
        }
        Ok(Self { modules })
    }

    /// Returns each import of one file from another once.
    pub(super) fn imports(&self) -> Vec<Import> {
        let mut imports = BTreeSet::new();
        for (path, module) in &self.modules {
            for named in &module.named {
                let Some((through, defined_in)) = self.resolve(named, MAX_RE_EXPORTS) else { continue };
                if defined_in == path {
                    continue;
                }
                imports.insert(Import {
                    from: module.file.clone(),
                    path: format!("crate::{}", named.join("::")),
                    through: self.modules[through].file.clone(),
                    defined_in: self.modules[defined_in].file.clone(),
                });
            }
        }
        imports.into_iter().collect()
    }

    /// Returns the module that a path names its item through, and the one that defines the item.
    fn resolve<'a>(
        &'a self,
        named: &[String],
        re_exports: usize,
    ) -> Option<(&'a ModulePath, &'a ModulePath)> {
        let deepest = (0..=named.len()).rev().find(|&depth| self.modules.contains_key(&named[..depth]))?;
        let (through, module) = self.modules.get_key_value(&named[..deepest])?;
        let rest = &named[deepest..];
        let Some(name) = rest.first().filter(|_| re_exports > 0) else { return Some((through, through)) };
        if let Some(target) = module.aliases.get(name) {
            let target = [target, &rest[1..]].concat();
            return self
                .resolve(&target, re_exports - 1)
                .map(|(_, defined_in)| (through, defined_in))
                .or(Some((through, through)));
        }
        Some((through, through))
    }
}

/// Converts a file's path to a module path: `src/a/b.rs` is `a::b`, and `lib.rs` and `main.rs` are the root.
fn module_path(source: &str, path: &str) -> ModulePath {
    let inner = path.strip_prefix(source).unwrap_or(path).trim_end_matches(".rs");
    match inner {
        "lib" | "main" => Vec::new(),
        inner => inner.split('/').map(str::to_owned).collect(),
    }
}

/// A visitor that walks one file without its unit tests.
struct Reader<'a> {
    known: &'a BTreeSet<ModulePath>,
    /// The current module of the walk: the file's own, or one inside it.
    within: ModulePath,
    read: Module,
}

impl Reader<'_> {
    /// Returns a path within the crate from its root: one that begins with `crate`, `self`, `super` or a
    /// module beneath.
    fn absolute(&self, segments: &[String]) -> Option<ModulePath> {
        let mut path = match segments.first()?.as_str() {
            "crate" => Vec::new(),
            "self" | "super" => self.within.clone(),
            child => {
                let inside = [self.within.as_slice(), &[child.to_owned()]].concat();
                return self.known.contains(&inside).then(|| [&self.within, segments].concat());
            }
        };
        let mut rest = segments;
        while let Some((first, tail)) = rest.split_first() {
            match first.as_str() {
                "crate" | "self" => {}
                "super" => drop(path.pop()),
                _ => break,
            }
            rest = tail;
        }
        path.extend_from_slice(rest);
        Some(path)
    }

    fn name(&mut self, segments: &[String]) {
        if let Some(path) = self.absolute(segments) {
            self.read.named.insert(path);
        }
    }

    fn use_tree(&mut self, tree: &syn::UseTree, before: &mut Vec<String>) {
        match tree {
            syn::UseTree::Path(path) => {
                before.push(path.ident.to_string());
                self.use_tree(&path.tree, before);
                before.pop();
            }
            syn::UseTree::Group(group) => {
                for tree in &group.items {
                    self.use_tree(tree, before);
                }
            }
            syn::UseTree::Name(name) => self.brought_in(before, &name.ident, &name.ident),
            syn::UseTree::Rename(rename) => self.brought_in(before, &rename.ident, &rename.rename),
            syn::UseTree::Glob(_) => {
                if let Some(path) = self.absolute(before) {
                    self.read.named.insert(path);
                }
            }
        }
    }

    fn brought_in(&mut self, before: &[String], item: &syn::Ident, alias: &syn::Ident) {
        let mut segments = before.to_vec();
        let mut alias = alias.to_string();
        if item == "self" {
            alias = if alias == "self" { before.last().cloned().unwrap_or_default() } else { alias };
        } else {
            segments.push(item.to_string());
        }
        if let Some(path) = self.absolute(&segments) {
            self.read.named.insert(path.clone());
            self.read.aliases.insert(alias, path);
        }
    }

    /// Macros get tokens, not paths. Of these only `crate` means the same wherever the macro uses it.
    fn tokens(&mut self, tokens: TokenStream) {
        let mut segments: Vec<String> = Vec::new();
        let mut colons = 0;
        for token in tokens {
            match token {
                TokenTree::Ident(ident) => {
                    if colons != 2 {
                        self.name_from_root(&std::mem::take(&mut segments));
                    }
                    segments.push(ident.to_string());
                    colons = 0;
                }
                TokenTree::Punct(punct) if punct.as_char() == ':' => colons += 1,
                other => {
                    self.name_from_root(&std::mem::take(&mut segments));
                    colons = 0;
                    if let TokenTree::Group(group) = other {
                        self.tokens(group.stream());
                    }
                }
            }
        }
        self.name_from_root(&segments);
    }

    fn name_from_root(&mut self, segments: &[String]) {
        // A `crate` alone is a visibility, as in `pub(crate)`.
        if segments.len() > 1 && segments.first().is_some_and(|first| first == "crate") {
            self.name(segments);
        }
    }
}

impl<'ast> Visit<'ast> for Reader<'_> {
    fn visit_item(&mut self, item: &'ast syn::Item) {
        if !attributes(item).iter().any(is_test) {
            visit::visit_item(self, item);
        }
    }

    fn visit_item_mod(&mut self, module: &'ast syn::ItemMod) {
        if module.content.is_some() {
            self.within.push(module.ident.to_string());
            visit::visit_item_mod(self, module);
            self.within.pop();
        }
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        self.use_tree(&item.tree, &mut Vec::new());
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let segments: Vec<String> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        if segments.len() > 1 {
            self.name(&segments);
        }
        visit::visit_path(self, path);
    }

    /// Visibilities such as `pub(super)` and `pub(in crate::a)` are not imports.
    fn visit_visibility(&mut self, _: &'ast syn::Visibility) {}

    fn visit_macro(&mut self, made: &'ast syn::Macro) {
        self.tokens(made.tokens.clone());
        visit::visit_macro(self, made);
    }
}

fn attributes(item: &syn::Item) -> &[syn::Attribute] {
    match item {
        syn::Item::Mod(item) => &item.attrs,
        syn::Item::Fn(item) => &item.attrs,
        syn::Item::Use(item) => &item.attrs,
        syn::Item::Impl(item) => &item.attrs,
        syn::Item::Struct(item) => &item.attrs,
        syn::Item::Const(item) => &item.attrs,
        _ => &[],
    }
}

/// Returns whether an attribute is `#[cfg(test)]`, or `cfg` of several conditions with `test` among them.
fn is_test(attribute: &syn::Attribute) -> bool {
    let names_test = |tokens: &TokenStream| {
        tokens.clone().into_iter().any(|token| match token {
            TokenTree::Ident(ident) => ident == "test",
            TokenTree::Group(group) => group
                .stream()
                .into_iter()
                .any(|token| matches!(token, TokenTree::Ident(ident) if ident == "test")),
            _ => false,
        })
    };
    match &attribute.meta {
        syn::Meta::List(list) => list.path.is_ident("cfg") && names_test(&list.tokens),
        _ => false,
    }
}

/// Longest chain of re-exports. A longer one is a loop.
const MAX_RE_EXPORTS: usize = 8;
