"""
EC2 on this machine: moto's server, for ``multi_cloud.py``.

    python examples/moto_endpoint.py PORT

moto leaves out the slash at the end of EC2's XML namespace. libcloud's EC2 driver, which knows the
real service, then finds nothing in its answers. So the slash is put back.
"""

import sys

from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import run_simple
from werkzeug.wrappers import Request, Response

NAMESPACE = b'xmlns="http://ec2.amazonaws.com/doc/2016-11-15'

moto = DomainDispatcherApplication(create_backend_app)


@Request.application
def endpoint(request):
    answer = Response.from_app(moto, request.environ)
    answer.set_data(answer.get_data().replace(NAMESPACE + b'"', NAMESPACE + b'/"'))
    return answer


if __name__ == "__main__":
    run_simple("127.0.0.1", int(sys.argv[1]), endpoint, threaded=True)
