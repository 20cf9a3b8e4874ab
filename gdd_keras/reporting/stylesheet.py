"""How the page looks: light or dark as the reader's system, and on paper."""

__all__ = ["STYLESHEET"]

STYLESHEET = """\
:root {
  color-scheme: light dark;
  --ink: #1f2328;
  --quiet: #59636e;
  --paper: #ffffff;
  --line: #d1d9e0;
  --shade: #f4f6f8;
  --link: #0a58ca;
}
@media (prefers-color-scheme: dark) {
  :root {
    --ink: #e6edf3;
    --quiet: #9aa5b1;
    --paper: #0d1117;
    --line: #3d444d;
    --shade: #171d25;
    --link: #6cb0ff;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0;
  background: var(--paper);
  color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif;
}
main { max-width: 70rem; margin: 0 auto; padding: 1.5rem 1rem 4rem; }
main > p, main > ul, details > p { max-width: 46rem; overflow-wrap: anywhere; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0.5rem 0 1rem; }
h2 {
  font-size: 1.35rem;
  margin: 2.6rem 0 0.8rem;
  padding-bottom: 0.25rem;
  border-bottom: 1px solid var(--line);
}
h3 { font-size: 1.05rem; margin: 1.8rem 0 0.5rem; }
h1, h2, h3 { overflow-wrap: anywhere; }
a { color: var(--link); }
nav ul {
  display: flex;
  flex-wrap: wrap;
  gap: 0.2rem 1.1rem;
  margin: 0 0 1.2rem;
  padding: 0;
  list-style: none;
}
h3 + p { color: var(--quiet); font-size: 0.92rem; }
.wide { display: block; overflow-x: auto; margin: 0.8rem 0; }
table {
  border-collapse: collapse;
  font-size: 0.92rem;
  font-variant-numeric: tabular-nums;
}
th, td {
  padding: 0.3rem 0.7rem;
  border-bottom: 1px solid var(--line);
  text-align: left;
  vertical-align: top;
  white-space: nowrap;
}
th { border-bottom-width: 2px; font-weight: 600; }
tbody tr:hover { background: var(--shade); }
code, pre { font: 0.9em/1.45 ui-monospace, Menlo, Consolas, monospace; }
code { background: var(--shade); padding: 0.1em 0.3em; border-radius: 4px; }
pre {
  overflow-x: auto;
  padding: 0.8rem 1rem;
  background: var(--shade);
  border: 1px solid var(--line);
  border-radius: 6px;
}
pre code { padding: 0; background: none; }
summary { cursor: pointer; padding: 0.3rem 0; }
svg { display: block; max-width: none; height: auto; }
.gallery { display: flex; flex-wrap: wrap; gap: 1.2rem; }
.gallery p { margin: 0; flex: 0 1 auto; color: var(--quiet); }
.gallery img {
  display: block;
  max-width: 100%;
  image-rendering: pixelated;
  border: 1px solid var(--line);
}
@media print {
  :root {
    color-scheme: light;
    --ink: #000000;
    --quiet: #444444;
    --paper: #ffffff;
    --line: #bbbbbb;
    --shade: #f6f6f6;
    --link: #000000;
  }
  body { font-size: 10pt; }
  main { max-width: none; padding: 0; }
  nav { display: none; }
  h2, h3, h3 + p, p:has(+ p .wide) { break-after: avoid; }
  tr, svg, .gallery p { break-inside: avoid; }
  .wide { overflow: visible; }
  th, td { white-space: normal; padding: 0.25rem 0.5rem; }
  svg { max-width: 100%; }
  pre { white-space: pre-wrap; overflow-wrap: anywhere; }
}
"""
