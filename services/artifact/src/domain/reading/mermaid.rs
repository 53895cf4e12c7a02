//! A graph as a Mermaid flowchart. Prompts are hostile by trade: no text of a label may end it, add a
//! node, or become HTML.

use std::fmt::Write;

use super::workflow::{Graph, Node, NodeKind};

/// Characters of a label at most; entities make them longer.
const LABEL_CHARS: usize = 80;

/// The flowchart; nodes are n1, n2, … in the graph's order.
pub(super) fn flowchart(graph: &Graph) -> String {
    let mut text = String::from("flowchart LR\n");
    for (number, node) in (1..).zip(&graph.nodes) {
        let (open, close) = shape(&node.kind);
        let label = escaped(node);
        // A String takes everything.
        let _ = writeln!(text, "  n{number}{open}\"{label}\"{close}");
    }
    for (from, to) in &graph.edges {
        let _ = writeln!(text, "  n{} --> n{}", from + 1, to + 1);
    }
    text
}

fn shape(kind: &NodeKind) -> (&'static str, &'static str) {
    match kind {
        NodeKind::Probe => ("([", "])"),
        NodeKind::Prompt => ("[", "]"),
        NodeKind::Output => ("(", ")"),
        NodeKind::Finding { .. } => ("{{", "}}"),
    }
}

/// All but letters, digits, spaces and harmless marks becomes an entity as Mermaid writes it: `#34;`.
fn escaped(node: &Node) -> String {
    let mut out = String::new();
    let mut chars = node.label.chars();
    for c in chars.by_ref().take(LABEL_CHARS) {
        if c.is_alphanumeric() || matches!(c, ' ' | '.' | ',' | '!' | '?' | '_' | '-') {
            out.push(c);
        } else {
            let _ = write!(out, "#{};", u32::from(c));
        }
    }
    if chars.next().is_some() {
        out.push_str("...");
    }
    if out.is_empty() {
        out.push(' ');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a Mermaid reader makes of a label.
    fn read(label: &str) -> String {
        let mut out = String::new();
        let mut rest = label;
        while let Some((before, after)) = rest.split_once('#') {
            let (number, after) = after.split_once(';').unwrap();
            out.push_str(before);
            out.push(char::from_u32(number.parse().unwrap()).unwrap());
            rest = after;
        }
        out + rest
    }

    #[test]
    fn no_prompt_breaks_out_of_its_label() {
        let hostile = [
            "end",
            "say \"hi\"] --> n9[\"gone",
            "]) ]] }} )) |x| --> ==> -.->",
            "line\nbreak\r\n  n7[\"x\"]",
            "`markdown` and **bold**",
            "<script>alert(1)</script><img src=x onerror=y>",
            "%% comment %%{init: {}}%%",
            "#quot; #35; &quot; &#34; ;",
            "click n1 \"javascript:alert(1)\"",
            "\\\" \\n $(id) {{x}}",
            "\u{202e}right to left\u{0}\u{7f}",
            "日本語 ünïcode 🦀",
            "",
        ];
        for text in hostile {
            let node = |label: &str| Node {
                kind: NodeKind::Prompt,
                probe: "a.A".to_owned(),
                attempt: "1".to_owned(),
                label: label.to_owned(),
            };
            let graph = Graph {
                nodes: vec![node(text), node("other")],
                edges: vec![(0, 1)],
            };
            let chart = flowchart(&graph);
            let lines: Vec<&str> = chart.lines().collect();
            assert_eq!(lines.len(), 4, "{chart}");
            assert_eq!((lines[0], lines[3]), ("flowchart LR", "  n1 --> n2"));
            let label = lines[1]
                .strip_prefix("  n1[\"")
                .unwrap()
                .strip_suffix("\"]")
                .unwrap();
            let harmless = |c: char| c.is_alphanumeric() || " .,!?_-#;".contains(c);
            assert!(label.chars().all(harmless), "{label}");
            assert_eq!(read(label), if text.is_empty() { " " } else { text });
        }
    }

    #[test]
    fn a_long_label_is_cut_before_it_is_escaped() {
        let node = Node {
            kind: NodeKind::Output,
            probe: String::new(),
            attempt: String::new(),
            label: "\"".repeat(500),
        };
        assert_eq!(escaped(&node), "#34;".repeat(80) + "...");
    }
}
