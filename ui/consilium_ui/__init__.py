"""The portal: Streamlit pages that speak HTTP to the API and nothing else."""
