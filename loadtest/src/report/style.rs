//! How the report looks, light and dark.

/// The style sheet. Colours are told apart by lightness too, for those who see no hues.
pub(super) const SHEET: &str = "
:root{color-scheme:light dark;--ground:#fbfaf8;--card:#fff;--ink:#1d1c1a;--soft:#6d6a64;--line:#e4e1db;
--subject:#0b6e99;--baseline:#d9822b;--direct:#8a8f98;--other:#7a5ea8;--good:#2c7a4b;--bad:#b3362b}
@media(prefers-color-scheme:dark){:root{--ground:#141517;--card:#1c1e21;--ink:#e9e7e3;--soft:#9b9891;--line:#33363b;
--subject:#4fb3dd;--baseline:#f0a35a;--direct:#8f959f;--other:#b29ae0;--good:#6cc58f;--bad:#ee7f74}}
*{box-sizing:border-box}
body{margin:0;background:var(--ground);color:var(--ink);font:15px/1.5 system-ui,-apple-system,'Segoe UI',sans-serif;
font-variant-numeric:tabular-nums}
main{max-width:1080px;margin:0 auto;padding:40px 20px 80px}
h1{font-size:32px;letter-spacing:-.02em;margin:0 0 4px}h2{font-size:20px;letter-spacing:-.01em;margin:0}
h3{font-size:14px;margin:18px 0 4px}
.lead{color:var(--soft);margin:2px 0 14px}
.note{border-left:3px solid var(--baseline);padding-left:12px;margin:8px 0;color:var(--soft)}
.legend span{margin-right:20px;white-space:nowrap}.legend i{display:inline-block;width:11px;height:11px;
border-radius:3px;margin-right:6px}small{color:var(--soft)}
section{background:var(--card);border:1px solid var(--line);border-radius:12px;padding:20px 22px;margin:22px 0}
svg{display:block;width:100%;height:auto;overflow:visible}
svg text{fill:var(--soft);font-size:11px}svg text.ink{fill:var(--ink)}svg text.strong{fill:var(--ink);font-weight:600}
svg .grid{stroke:var(--line)}svg .axis{stroke:var(--soft)}
.pair{display:grid;grid-template-columns:repeat(auto-fill,minmax(440px,1fr));gap:10px 34px}
.scroll{overflow-x:auto}
table{border-collapse:collapse;width:100%;font-size:13px}
th{text-align:right;font-weight:500;color:var(--soft);border-bottom:1px solid var(--line);padding:5px 8px}
td{text-align:right;padding:4px 8px;border-bottom:1px solid var(--line)}
th:first-child,td:first-child{text-align:left}
tr.case td{font-weight:600;padding-top:14px;border-bottom:none}
.met b{color:var(--good)}.missed b{color:var(--bad)}.not-measured{color:var(--soft)}
.failed{color:var(--bad)}
pre{overflow-x:auto;font-size:12px;background:var(--ground);padding:12px;border-radius:8px}
details summary{cursor:pointer;margin:8px 0}
@media print{section{break-inside:avoid}}
";
