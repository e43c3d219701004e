"""The report's figures: matplotlib without a display, each as SVG for the page and PNG for elsewhere."""
