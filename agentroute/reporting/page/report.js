(() => {
  "use strict";
  const root = document.documentElement;
  const read = (id) => JSON.parse(document.getElementById(id).textContent);
  for (const part of document.querySelectorAll(".needs-script")) part.hidden = false;
  for (const part of document.querySelectorAll(".without-script")) part.hidden = true;

  // The theme: the system's until the button is pressed.
  const system = matchMedia("(prefers-color-scheme: dark)");
  const button = document.getElementById("theme");
  const dark = () => (root.dataset.theme ? root.dataset.theme === "dark" : system.matches);
  const name = () => { button.textContent = dark() ? "Light colours" : "Dark colours"; };
  button.addEventListener("click", () => { root.dataset.theme = dark() ? "light" : "dark"; name(); });
  system.addEventListener("change", name);
  name();

  // The charts. They take their colours from the page, so that a change of theme reaches them by itself.
  const options = { renderer: "svg", actions: false, ast: true, defaultStyle: false, tooltip: { disableDefaultStyle: true } };
  const drawn = {};
  const draw = async () => {
    for (const [id, spec] of Object.entries(read("charts"))) {
      drawn[id] = (await vegaEmbed(`#chart-${id}`, spec, options)).view;
    }
  };

  // The slider: every text was made beforehand, here they are only put in place.
  const slider = document.getElementById("rate");
  const points = slider ? read("points") : [];
  const show = (place) => {
    const point = points[place];
    for (const [key, text] of Object.entries(point.texts)) {
      const place = document.getElementById(`at-${key}`);
      if (place && place.textContent !== text) place.textContent = text;  // what has not changed need not be read out again
    }
    slider.setAttribute("aria-valuetext", point.texts.told);
    document.querySelectorAll("#shares li").forEach((item, j) => {
      item.querySelector(".share").textContent = point.shares[j][0];
      item.querySelector(".bar span").style.width = `${point.shares[j][1]}%`;
    });
    if (drawn.plane) drawn.plane.signal("at", place).runAsync();
  };
  if (slider) slider.addEventListener("input", () => show(Number(slider.value)));

  draw().then(() => {
    if (slider && drawn.plane) {
      show(Number(slider.value));  // it may have been moved before the charts were there
      drawn.plane.addEventListener("click", (event, item) => {
        if (item && item.datum && Number.isInteger(item.datum.place) && item.datum.least !== undefined) {
          slider.value = item.datum.place;
          show(item.datum.place);
        }
      });
    }
    root.dataset.ready = "yes";
  });
})();
