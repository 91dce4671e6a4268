"""The ridge method: a target model fitted to the mask itself on fixed backbone features."""
