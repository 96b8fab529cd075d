mod bad_input;
mod datagrams;
mod driving;
mod glue;
mod migration;
mod streams;
mod trust;
