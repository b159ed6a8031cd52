//! What the program does besides running the gateway: one module for each command.

pub(crate) mod check;
pub(crate) mod config;
pub(crate) mod control;
pub(crate) mod decode;
pub(crate) mod demo;
pub(crate) mod deny;
pub(crate) mod encode;
pub(crate) mod jail_probe;
pub(crate) mod manual;
pub(crate) mod probe;
pub(crate) mod routing;
pub(crate) mod top;
