import java.io.ByteArrayInputStream;
import java.io.IOException;
import java.net.Authenticator;
import java.net.InetSocketAddress;
import java.net.PasswordAuthentication;
import java.net.ProxySelector;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublisher;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse.BodyHandlers;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.Base64;

/**
 * A legacy service with java.net.http.HttpClient: three exchanges with one client.
 *
 *     java Caller.java PROXY_URL TARGET_URL
 *     java Caller.java --gateway GATEWAY_URL HOST_HEADER PATH
 *
 * Credentials stand in the first URL, as http://user:password@host:port. Prints {"status", "body"}
 * in one line per response: of a GET, of a JSON POST, of a chunked POST of 300 000 bytes of "x".
 */
class Caller {
    static final HttpRequest.Builder request = HttpRequest.newBuilder().timeout(Duration.ofSeconds(30));

    public static void main(String[] arguments) throws Exception {
        // The client forbids a Host of one's own unless this is set before its first use.
        System.setProperty("jdk.httpclient.allowRestrictedHeaders", "host");
        boolean gateway = arguments[0].equals("--gateway");
        URI first = URI.create(arguments[gateway ? 1 : 0]);
        // The preferred version stays the default, HTTP/2: in gateway form that means an offer of h2c.
        HttpClient.Builder client = HttpClient.newBuilder();
        if (gateway) {
            request.uri(first.resolve(arguments[3])).header("Host", arguments[2]);
            if (first.getUserInfo() != null) {
                byte[] credentials = first.getUserInfo().getBytes(StandardCharsets.UTF_8);
                request.header("Authorization", "Basic " + Base64.getEncoder().encodeToString(credentials));
            }
        } else {
            request.uri(URI.create(arguments[1]));
            // A selector of one's own has no exception for loopback, unlike the system's.
            client.proxy(ProxySelector.of(new InetSocketAddress(first.getHost(), first.getPort())));
            if (first.getUserInfo() != null) client.authenticator(answering(first.getUserInfo().split(":", 2)));
        }

        HttpClient service = client.build();
        byte[] upload = "x".repeat(300_000).getBytes(StandardCharsets.UTF_8);
        exchange(service, "GET", BodyPublishers.noBody(), null);
        exchange(service, "POST", BodyPublishers.ofString("{\"note\":\"" + "n".repeat(2000) + "\"}"), "application/json");
        // Of an InputStream the client does not know the length, so it sends chunks.
        exchange(service, "POST", BodyPublishers.ofInputStream(() -> new ByteArrayInputStream(upload)), "application/octet-stream");
    }

    /** Asked after a 407; from then on the client sends the credentials unasked. */
    static Authenticator answering(String[] credentials) {
        return new Authenticator() {
            @Override protected PasswordAuthentication getPasswordAuthentication() {
                return new PasswordAuthentication(credentials[0], credentials[1].toCharArray());
            }
        };
    }

    static void exchange(HttpClient service, String method, BodyPublisher body, String type) throws IOException, InterruptedException {
        HttpRequest.Builder one = request.copy().method(method, body);
        if (type != null) one.header("Content-Type", type);
        var response = service.send(one.build(), BodyHandlers.ofString());
        String escaped = response.body().replace("\\", "\\\\").replace("\"", "\\\"")
                .replace("\n", "\\n").replace("\r", "\\r").replace("\t", "\\t");
        String version = response.version() == HttpClient.Version.HTTP_2 ? "HTTP/2.0" : "HTTP/1.1";
        System.out.println("{\"status\":" + response.statusCode() + ",\"version\":\"" + version + "\",\"body\":\"" + escaped + "\"}");
    }
}
