//! What commands can print. Doc comments here are the text of `--help`.

use clap::ValueEnum;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum GraphFormat {
    /// A picture that browsers show
    Svg,
    /// For Graphviz
    Dot,
    /// For wikis and code hosts that draw Mermaid
    Mermaid,
    /// One JSON list that holds the graph: a message of the protocol in protobuf's JSON form
    Json,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Output {
    /// For people: the verdict and the sources side by side
    Table,
    /// One JSON list: messages of the protocol in protobuf's JSON form
    Json,
    /// The same documents, one a line, each as it is ready
    Jsonl,
    /// One row an indicator
    Csv,
    /// One JSON list: Cortex XSOAR's entry context of each indicator, with a DBotScore for each source and for the verdict
    Dbot,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum ListOutput {
    /// For people
    Table,
    /// One JSON list: messages of the protocol in protobuf's JSON form
    Json,
    /// The same documents, one a line
    Jsonl,
}
