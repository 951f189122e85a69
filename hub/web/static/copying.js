// Puts a Copy button beside each line that is meant to be copied. Without it the line is still selected by one click.
for (const line of document.querySelectorAll(".copy")) {
  if (!navigator.clipboard) break; // only on https and on this machine
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = "Copy";
  button.setAttribute("aria-label", `Copy: ${line.textContent.trim()}`);
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(line.textContent.trim());
    button.textContent = "Copied";
    setTimeout(() => { button.textContent = "Copy"; }, 1500);
  });
  line.after(button);
}
