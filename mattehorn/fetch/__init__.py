"""What callers make the service reach over HTTP: pictures by URL, and the POST at a job's end. Nothing of it may lead
to an address that is not public, unless the operator lists the host.

addresses.py which IP addresses are public; urls.py a text to its parts; policy.py what an operator allows; resolve.py
names to addresses; exchange.py one request to a checked address; fetch.py the whole; sources.py the photo of a request.
"""
