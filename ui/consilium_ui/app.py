"""Entry point of the portal: `consilium portal` gives this file to Streamlit."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

HERE = Path(__file__).parent


def main() -> None:
    """Name the pages and run the one that the address asks for."""
    st.set_page_config(
        page_title="Consilium", page_icon=":material/hub:", layout="wide", initial_sidebar_state=250
    )
    st.html(HERE / "page.css")
    st.logo(HERE / "logo.svg", size="large")
    study = st.Page(HERE / "pages_" / "study.py", title="Study", icon=":material/monitoring:", default=True)
    st.navigation([study], position="hidden").run()


main()
