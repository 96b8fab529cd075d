mod bad_input;
mod datagrams;
mod glue;
mod migration;
mod streams;
mod trust;
