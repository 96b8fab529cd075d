mod bad_input;
mod datagrams;
mod gathering;
mod glue;
mod migration;
mod streams;
mod trust;
