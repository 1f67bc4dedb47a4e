"use strict";
// On a narrow screen the forms above the clips are folded, so that the first clip is near.
const NARROW = 700; // css pixels
if (innerWidth < NARROW) document.querySelectorAll(".panel").forEach((panel) => { panel.open = false; });
