"""The fixed parts of the comparison's HTML page: its legend and its style sheet. Used by sheet.py alone."""

LEGEND = """
<p>Each photo shows, above, the photo, the true matte and the mattes of A and B: white is foreground, black background,
grey partly transparent. Below it, all three laid over green with the foreground's colour estimated, as a cutout would
be: green within the subject is a hole, the old background around it is a halo, a missing part was taken for
background. The better figure of two is in bold.</p>
<dl>
<dt>SAD, MSE, MAD</dt><dd>sum (in thousands), mean square and mean of the absolute differences. Less is better.</dd>
<dt>Grad</dt><dd>how much edges differ in steepness: blurred or broken outlines. Less is better.</dd>
<dt>Conn</dt><dd>parts that hang loose from the subject. Less is better.</dd>
<dt>IoU, Dice</dt><dd>overlap of the shapes at alpha 0.5. More is better; IoU below .3 is a missed subject.</dd>
<dt>max-F</dt><dd>F-measure (beta² = 0.3) at the threshold that suits the photo best. More is better.</dd>
<dt>unknown band</dt><dd>the pixels along the true edge and within half-transparent parts: how fine the outline is,
whatever the rest does.</dd>
<dt>time</dt><dd>one photo through fit, network and restore to full size; both models take turns on every photo.</dd>
</dl>
<p>Worst is by IoU where truth is a binary mask (was the subject found?) and by MAD where it is a matte.</p>
"""

STYLE = """
:root { color-scheme: light dark; --ink: light-dark(#1d2126, #e4e7ea); --page: light-dark(#fbfbfa, #16181b);
  --card: light-dark(#ffffff, #1f2226); --line: light-dark(#d8dbdf, #363b41); --quiet: light-dark(#59616a, #9aa3ad); }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink); font: 15px/1.5 system-ui, sans-serif; }
main { max-width: 1560px; margin: 0 auto; padding: 24px 20px 64px; }
h1 { font-size: 22px; line-height: 1.35; margin: 0 0 4px; overflow-wrap: anywhere; }
h2 { font-size: 19px; margin: 40px 0 0; } h2 + p { margin: 0 0 12px; color: var(--quiet); }
h3 { font-size: 15px; margin: 0 0 10px; overflow-wrap: anywhere; }
article { background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: 14px; margin: 0 0 16px; }
.grid { display: grid; grid-template-columns: repeat(4, minmax(0, 1fr)); gap: 12px; align-items: start; }
figure { margin: 0; } figcaption { color: var(--quiet); font-size: 13px; margin-top: 3px; }
img { display: block; width: 100%; height: auto; max-width: 360px; border: 1px solid var(--line); }
.wide { overflow-x: auto; margin: 12px 0; } .grid .wide { margin: 0; }
.tables { display: flex; flex-wrap: wrap; gap: 0 24px; } .tables th[scope=row] { min-width: 7.5em; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
td, th { padding: 3px 8px; text-align: right; border-bottom: 1px solid var(--line); font-weight: 400;
  white-space: nowrap; }
thead th { color: var(--quiet); } th[scope=row], th:first-child { text-align: left; padding-left: 0; }
.small { font-size: 12.5px; } .small td, .small th { padding: 2px 6px; } .small th[scope=row] { padding-left: 0; }
b { font-weight: 700; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 4px 16px; margin: 8px 0; } dt { font-weight: 600; }
dd { margin: 0; } details { max-width: 80ch; margin: 16px 0; } summary { cursor: pointer; font-weight: 600; }
@media (max-width: 820px) { .grid { grid-template-columns: repeat(2, minmax(0, 1fr)); }
  .late { order: 1; } .grid .wide { grid-column: 1 / -1; order: 2; }
  dl { grid-template-columns: 1fr; } dt { margin-top: 6px; } }
"""
