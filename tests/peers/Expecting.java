import java.net.Authenticator;
import java.net.InetSocketAddress;
import java.net.PasswordAuthentication;
import java.net.ProxySelector;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse.BodyHandlers;
import java.time.Duration;

/**
 * java.net.http.HttpClient with expectContinue(true): one POST for each URL.
 *
 *     java Expecting.java PROXY_URL BYTES TARGET_URL...
 *
 * With {@code -Dversion=HTTP_1_1} it offers no HTTP/2. Prints the status and the length of the body for each, or what went wrong. Credentials may stand in the first URL.
 */
class Expecting {
    public static void main(String[] arguments) throws Exception {
        URI proxy = URI.create(arguments[0]);
        byte[] body = "x".repeat(Integer.parseInt(arguments[1])).getBytes();
        for (int at = 2; at < arguments.length; at++) {
            HttpClient.Builder client = HttpClient.newBuilder();
            client.version(HttpClient.Version.valueOf(System.getProperty("version", "HTTP_2")));
            // A selector of one's own has no exception for loopback, unlike the system's.
            client.proxy(ProxySelector.of(new InetSocketAddress(proxy.getHost(), proxy.getPort())));
            if (proxy.getUserInfo() != null) {
                String[] credentials = proxy.getUserInfo().split(":", 2);
                client.authenticator(new Authenticator() {
                    @Override protected PasswordAuthentication getPasswordAuthentication() {
                        return new PasswordAuthentication(credentials[0], credentials[1].toCharArray());
                    }
                });
            }
            HttpRequest request = HttpRequest.newBuilder(URI.create(arguments[at])).timeout(Duration.ofSeconds(20))
                    .expectContinue(true).POST(BodyPublishers.ofByteArray(body)).build();
            try {
                var response = client.build().send(request, BodyHandlers.ofString());
                System.out.println(response.statusCode() + " " + response.body().length());
            } catch (Exception failed) {
                System.out.println(failed);
            }
        }
        // Its threads outlive a request that hangs.
        System.exit(0);
    }
}
