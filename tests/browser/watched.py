"""An open report that is watched: what it says, and what it asks for."""

from __future__ import annotations

from pathlib import Path


class Watched:
    """An open page with everything it said and every request it made; requests that leave the file are cut off."""

    def __init__(
        self, browser, file: Path, width: int = 1440, scheme: str = "light", at: str = "", motion: str = "no-preference"
    ) -> None:
        self.said: list[str] = []
        self.asked: list[str] = []
        self.context = browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme=scheme, reduced_motion=motion
        )
        self.page = self.context.new_page()
        self.page.on("console", lambda message: self.said.append(f"{message.type}: {message.text}"))
        self.page.on("pageerror", lambda error: self.said.append(f"error: {error}"))
        self.page.on("dialog", lambda dialog: (self.said.append(f"dialog: {dialog.message}"), dialog.dismiss()))
        self.address = file.as_uri()
        self.page.route("**/*", self._route)
        self.page.goto(self.address + at)
        self.page.wait_for_selector("html[data-ready]", state="attached")

    def _route(self, route) -> None:
        address = route.request.url
        self.asked.append(address)
        if address.split("#")[0] == self.address:
            route.continue_()
        else:
            route.abort()

    def figure(self, card: str):
        """A card's heat map, scrolled to and drawn."""
        self.page.locator(f"#{card}").evaluate("e => { e.closest('details').open = true; }")
        self.page.locator(f"#{card}").scroll_into_view_if_needed()
        self.page.wait_for_selector(f"#{card} figure.coefficients[data-ready]")
        return self.page.locator(f"#{card} figure.coefficients")

    def view(self, card: str) -> tuple[float, float, float, int]:
        """What the heat map shows: first column, first row, tokens a side, tokens a cell."""
        self.page.wait_for_timeout(60)  # a frame, in which a move is drawn
        data = self.page.locator(f"#{card} .range").evaluate("e => ({...e.dataset})")
        return float(data["x"]), float(data["y"]), float(data["span"]), int(data["side"])

    def colours(self, card: str) -> int:
        """How many different opaque colours the heat map shows."""
        script = """c => { const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data, s = new Set();
            for (let k = 0; k < d.length; k += 4) if (d[k + 3] === 255) s.add(d[k] * 65536 + d[k + 1] * 256 + d[k + 2]);
            return s.size; }"""
        return self.page.locator(f"#{card} canvas.plot").evaluate(script)

    def quiet(self) -> None:
        assert self.said == []
        assert {address.split("#")[0] for address in self.asked} == {self.address}

    def __enter__(self) -> Watched:
        return self

    def __exit__(self, *error) -> None:
        self.context.close()
