//! The public API is what `public_api.txt` says, so that no change of it goes unnoticed.
//!
//! Read from the sources, since rustdoc's own list needs an unstable compiler. After a change that is meant:
//! `UPDATE_PUBLIC_API=1 cargo test -p mmproxy-codec --test public_api`.

#![expect(clippy::wildcard_enum_match_arm, reason = "syn knows many kinds of items that are no API")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use quote::ToTokens;
use syn::{Attribute, Fields, ImplItem, Item, Type, UseTree, Visibility};

#[test]
fn the_public_api_is_the_one_that_was_written_down() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let found = Crate::read(&here.join("src")).describe();
    let file = here.join("tests/public_api.txt");
    if std::env::var_os("UPDATE_PUBLIC_API").is_some() {
        fs::write(&file, &found).expect("the snapshot can be written");
    }
    let written = fs::read_to_string(&file).unwrap_or_default();
    let lines = |text: &str| text.lines().map(str::to_owned).collect::<BTreeSet<_>>();
    let (written, found) = (lines(&written), lines(&found));
    let gone: Vec<_> = written.difference(&found).map(|line| format!("- {line}")).collect();
    let new: Vec<_> = found.difference(&written).map(|line| format!("+ {line}")).collect();
    assert!(
        gone.is_empty() && new.is_empty(),
        "the public API differs from tests/public_api.txt:\n{}\n{}\nIf that is meant: UPDATE_PUBLIC_API=1",
        gone.join("\n"),
        new.join("\n"),
    );
}

#[test]
fn no_type_of_a_dependency_is_public() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let api = fs::read_to_string(here.join("tests/public_api.txt")).expect("the snapshot is there");
    assert!(api.lines().count() > 150, "the snapshot has {} lines", api.lines().count());
    for foreign in ["nom", "IResult", "memchr", "crc32c ::"] {
        assert!(!api.contains(foreign), "{foreign} is public");
    }
}

/// What the sources say, by the name of the item.
struct Crate {
    /// Names that a public path leads to, and the module in front of them.
    exported: BTreeMap<String, String>,
    items: Vec<(String, String)>,
}

impl Crate {
    fn read(src: &Path) -> Self {
        let mut this = Self { exported: BTreeMap::new(), items: Vec::new() };
        for file in rust_files(src) {
            let text = fs::read_to_string(&file).expect("sources are readable");
            let module = match file.file_name().and_then(|name| name.to_str()) {
                Some("lib.rs") => Some(""),
                // The one public module.
                Some("encode.rs") if file.parent() == Some(src) => Some("encode::"),
                _ => None,
            };
            for item in syn::parse_file(&text).expect("sources are Rust").items {
                this.item(item, module);
            }
        }
        this
    }

    /// The lines of the snapshot.
    fn describe(&self) -> String {
        let lines: BTreeSet<String> = self
            .items
            .iter()
            .filter(|(_, line)| !self.is_from_private(line))
            .filter_map(|(name, line)| {
                self.exported.get(name).map(|module| format!("{module}{name}: {line}\n"))
            })
            .collect();
        lines.into_iter().collect()
    }

    /// A conversion from a type of this crate that nobody else can name.
    fn is_from_private(&self, line: &str) -> bool {
        let from = line.strip_prefix("impl From < ").and_then(|rest| rest.split(' ').next());
        from.is_some_and(|from| !self.exported.contains_key(from))
    }

    fn item(&mut self, item: Item, module: Option<&str>) {
        match item {
            Item::Use(import) if public(&import.vis) => {
                if let Some(module) = module {
                    self.export(&import.tree, module);
                }
            }
            Item::Fn(item) if public(&item.vis) => {
                let line = format!("{}{}", attributes(&item.attrs), text(&item.sig));
                self.add(&item.sig.ident, line, module);
            }
            Item::Const(item) if public(&item.vis) => {
                let line = format!("const: {} = {}", text(&item.ty), text(&item.expr));
                self.add(&item.ident, line, module);
            }
            Item::Struct(item) if public(&item.vis) => {
                let line = format!("{}struct{}", attributes(&item.attrs), text(&item.generics));
                self.fields(&item.ident.to_string(), "", &item.fields, public);
                self.add(&item.ident, line, module);
            }
            Item::Enum(item) if public(&item.vis) => {
                let line = format!("{}enum{}", attributes(&item.attrs), text(&item.generics));
                for variant in &item.variants {
                    let name = item.ident.to_string();
                    self.items.push((name.clone(), format!("variant {}", variant.ident)));
                    self.fields(&name, &format!("{}.", variant.ident), &variant.fields, |_| true);
                }
                self.add(&item.ident, line, module);
            }
            Item::Impl(item) => self.methods(item),
            _ => {}
        }
    }

    fn methods(&mut self, item: syn::ItemImpl) {
        let Type::Path(path) = item.self_ty.as_ref() else { return };
        let name = path.path.segments.last().expect("a type has a name").ident.to_string();
        if let Some((of, _)) = &item.trait_ {
            let what = format!("{}impl {} for {}", attributes(&item.attrs), text(of), text(&item.self_ty));
            // `impl From<X> for std::io::Error` belongs to X.
            let inside = text(of);
            let owner = inside.split(['<', '>']).nth(1).map(str::trim).filter(|_| name == "Error");
            self.items.push((owner.unwrap_or(&name).to_owned(), what));
            return;
        }
        for member in item.items {
            match member {
                ImplItem::Fn(method) if public(&method.vis) => {
                    self.items
                        .push((name.clone(), format!("{}{}", attributes(&method.attrs), text(&method.sig))));
                }
                ImplItem::Const(constant) if public(&constant.vis) => {
                    let line = format!("const {} = {}", constant.ident, text(&constant.expr));
                    self.items.push((name.clone(), line));
                }
                _ => {}
            }
        }
    }

    fn fields(&mut self, name: &str, prefix: &str, fields: &Fields, shown: impl Fn(&Visibility) -> bool) {
        for (at, field) in fields.iter().enumerate().filter(|(_, field)| shown(&field.vis)) {
            let field_name = field.ident.as_ref().map_or_else(|| at.to_string(), ToString::to_string);
            self.items.push((name.to_owned(), format!("field {prefix}{field_name}: {}", text(&field.ty))));
        }
    }

    fn add(&mut self, name: &impl ToString, line: String, module: Option<&str>) {
        if let Some(module) = module {
            self.exported.insert(name.to_string(), module.to_owned());
        }
        self.items.push((name.to_string(), line));
    }

    fn export(&mut self, tree: &UseTree, module: &str) {
        match tree {
            UseTree::Path(path) => self.export(&path.tree, module),
            UseTree::Group(group) => group.items.iter().for_each(|tree| self.export(tree, module)),
            UseTree::Name(name) => {
                self.exported.insert(name.ident.to_string(), module.to_owned());
            }
            UseTree::Rename(_) | UseTree::Glob(_) => panic!("this hides what is exported"),
        }
    }
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = fs::read_dir(folder)
        .expect("the folder is there")
        .map(|entry| entry.expect("it is readable").path())
        .flat_map(|path| if path.is_dir() { rust_files(&path) } else { vec![path] })
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
        // For the fuzz targets and hidden from the documentation: no part of the API.
        .filter(|path| !path.ends_with("fuzzing.rs"))
        .collect();
    found.sort();
    found
}

fn public(visibility: &Visibility) -> bool {
    matches!(visibility, Visibility::Public(_))
}

/// Those attributes that users depend on.
fn attributes(attributes: &[Attribute]) -> String {
    let kept = ["derive", "non_exhaustive", "must_use", "cfg"];
    attributes
        .iter()
        .filter(|attribute| kept.iter().any(|name| attribute.path().is_ident(name)))
        .map(|attribute| format!("{} ", text(attribute)))
        .collect()
}

fn text(tokens: &impl ToTokens) -> String {
    tokens.to_token_stream().to_string()
}
