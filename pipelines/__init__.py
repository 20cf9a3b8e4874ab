"""The whole job as a TFX pipeline; needs the packages of requirements.txt."""
