"""From a posterior to a candidate: acquisitions and their maximisation."""
