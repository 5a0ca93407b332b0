// A box above each long table: only the rows that contain all of its words are shown.
const LONG = 12;

function addFilter(table) {
  const rows = [...table.tBodies[0].rows];
  if (rows.length < LONG) return;
  const box = document.createElement("input");
  const count = document.createElement("span");
  box.type = "search";
  box.placeholder = "Filter this table";
  box.setAttribute("aria-label", "Filter this table");
  count.setAttribute("aria-live", "polite");
  const show = () => {
    const words = box.value.toLowerCase().split(/\s+/);
    let shown = 0;
    for (const row of rows) {
      const text = row.textContent.toLowerCase();
      row.hidden = !words.every((word) => text.includes(word));
      shown += !row.hidden;
    }
    count.textContent = `${shown} of ${rows.length} rows`;
  };
  box.addEventListener("input", show);
  const bar = document.createElement("div");
  bar.className = "table-filter";
  bar.append(box, count);
  table.before(bar);
  show();
}

document.querySelectorAll("article table:not([class])").forEach(addFilter);
