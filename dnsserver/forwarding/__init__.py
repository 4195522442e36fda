"""Names that are not ours: asked of other name servers, and kept for as long as those allow."""
