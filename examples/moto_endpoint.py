"""
Run a local EC2 endpoint, moto's server, for ``multi_cloud.py``.

    python examples/moto_endpoint.py PORT

moto omits the slash at the end of EC2's XML namespace, and libcloud's EC2 driver then finds nothing
in the responses. So this program adds the slash.
"""

import sys

from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import run_simple
from werkzeug.wrappers import Request, Response

NAMESPACE = b'xmlns="http://ec2.amazonaws.com/doc/2016-11-15'

moto = DomainDispatcherApplication(create_backend_app)


@Request.application
def endpoint(request):
    response = Response.from_app(moto, request.environ)
    response.set_data(response.get_data().replace(NAMESPACE + b'"', NAMESPACE + b'/"'))
    return response


if __name__ == "__main__":
    run_simple("127.0.0.1", int(sys.argv[1]), endpoint, threaded=True)
