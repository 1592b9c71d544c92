"""Is the network between these nodes fit for this model: measure pairs, name what is bad, or say that it is unknown.

:mod:`rounds` plans who measures with whom, :mod:`perftest` reads what the tools print, :mod:`rows` grades one
measurement, :mod:`attribution` names what is bad, :mod:`conclusion` gives the verdict: all pure. :mod:`coordinator`
and :mod:`peer` run the tools on the nodes.
"""
