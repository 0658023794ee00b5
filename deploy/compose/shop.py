"""An old service: it looks at payment links by plain HTTP, and leaves tokens and TLS to the proxy in its environment."""

import time
import urllib.error
import urllib.request

while True:
    try:
        with urllib.request.urlopen("http://uatoneapi.payu.in/payment-links", timeout=30) as response:
            print(response.status, response.headers["Bursar-Request-Id"])
    except urllib.error.HTTPError as error:
        print(error.code, error.read(300).decode(errors="replace"))
    except OSError as error:
        print(error)
    time.sleep(5)
