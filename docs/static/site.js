// A box that scrolls has to be reachable without a mouse: the arrow keys move what has the focus.
const BOXES = ".highlight pre, .cell_output pre, .cell_output .text_html, .cell_output .image_png, .table-wrapper";

function makeReachable() {
    for (const box of document.querySelectorAll(BOXES)) {
        if (box.scrollWidth > box.clientWidth) box.tabIndex = 0;
        else box.removeAttribute("tabindex");
    }
}

// Texts in a table of an output: marked, so that on a phone they get a column that can be read.
function markTexts() {
    for (const cell of document.querySelectorAll(".cell_output td")) {
        if (cell.textContent.length > 40) cell.classList.add("text");
    }
}

addEventListener("load", markTexts);
addEventListener("load", makeReachable);
addEventListener("resize", makeReachable);
