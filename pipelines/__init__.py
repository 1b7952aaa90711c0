"""The pipeline that joins the components: settings, compile, run."""
