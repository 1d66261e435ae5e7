"""Lending machines, as their owner sees it: joining, nodes, what they run and ran. Writes are those of nodes and jobs."""
