// A box that scrolls has to be reachable without a mouse: the arrow keys move what has the focus.
const BOXES = ".highlight pre, .cell_output pre, .cell_output .text_html, .cell_output .image_png, .table-wrapper";

function makeReachable() {
    for (const box of document.querySelectorAll(BOXES)) {
        if (box.scrollWidth > box.clientWidth) box.tabIndex = 0;
        else box.removeAttribute("tabindex");
    }
}

addEventListener("load", makeReachable);
addEventListener("resize", makeReachable);
