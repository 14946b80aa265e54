"use strict";
// Makes the heads of sortable tables buttons that sort. Without it all is there, in the order of calls.
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    const isNumber = head.classList.contains("number");
    button.addEventListener("click", () => {
      const order = head.getAttribute("aria-sort");
      const descends = order ? order === "ascending" : isNumber;
      for (const other of heads) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", descends ? "descending" : "ascending");
      const value = (row) => {
        const cell = row.cells[column];
        return cell.dataset.sort === undefined ? cell.textContent.trim() : Number(cell.dataset.sort);
      };
      const sign = descends ? -1 : 1;
      const rows = [...body.rows].map((row) => [value(row), row]);
      rows.sort(([one], [other]) => sign * (typeof one === "number" ? one - other : one.localeCompare(other)));
      body.append(...rows.map(([, row]) => row));
    });
  });
}
