"""From a posterior to a proposal: utilities and their maximisation."""
