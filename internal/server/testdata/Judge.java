import java.io.BufferedReader;
import java.io.ByteArrayInputStream;
import java.io.IOException;
import java.io.InputStream;
import java.io.InputStreamReader;
import java.io.OutputStream;
import java.net.InetAddress;
import java.net.URI;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.KeyStore;
import java.security.SecureRandom;
import java.security.Security;
import java.security.cert.CertPathValidator;
import java.security.cert.CertPathValidatorException;
import java.security.cert.CertStore;
import java.security.cert.Certificate;
import java.security.cert.CertificateFactory;
import java.security.cert.CertificateRevokedException;
import java.security.cert.CollectionCertStoreParameters;
import java.security.cert.Extension;
import java.security.cert.PKIXBuilderParameters;
import java.security.cert.PKIXParameters;
import java.security.cert.PKIXRevocationChecker;
import java.security.cert.TrustAnchor;
import java.security.cert.X509CertSelector;
import java.security.cert.X509Certificate;
import java.util.ArrayList;
import java.util.EnumSet;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import javax.net.ssl.CertPathTrustManagerParameters;
import javax.net.ssl.HttpsURLConnection;
import javax.net.ssl.KeyManagerFactory;
import javax.net.ssl.SSLContext;
import javax.net.ssl.SSLParameters;
import javax.net.ssl.SSLServerSocket;
import javax.net.ssl.SSLSocket;
import javax.net.ssl.TrustManagerFactory;

/**
 * Java's eyes on what Signet publishes. One process answers many questions, since a virtual machine is slow to start:
 * a line of words name=value in, one line out.
 *
 *   validate root=FILE chain=FILE [options=A,B] [crls=FILE] [staple=FILE] [responder=URL] [nonce=true] [crldp=true]
 *   connect  root=FILE port=N [protocol=TEXT] [options=A,B] [responder=URL]
 *   fetch    root=FILE port=N ocsp=BOOLEAN
 *   serve    store=FILE passwordfile=FILE
 *
 * The answer is good, revoked REASON, undetermined, or refused and why; serve answers with its port.
 */
public class Judge {
    public static void main(String[] args) throws IOException {
        var lines = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String line = lines.readLine(); line != null; line = lines.readLine()) {
            System.out.println(answer(line).replace('\n', ' '));
            System.out.flush();
        }
    }

    static String answer(String line) {
        String[] words = line.split(" ");
        Map<String, String> options = new HashMap<>();
        for (int i = 1; i < words.length; i++) {
            String[] pair = words[i].split("=", 2);
            options.put(pair[0], pair[1]);
        }
        try {
            switch (words[0]) {
                case "validate": return validate(options);
                case "connect": return connect(options);
                case "fetch": return fetch(options);
                case "serve": return serve(options);
                default: return "refused unknown question " + words[0];
            }
        } catch (Exception e) {
            return judgement(e);
        }
    }

    /** What an exception says about a certificate. */
    static String judgement(Exception e) {
        for (Throwable t = e; t != null; t = t.getCause()) {
            if (t instanceof CertificateRevokedException revoked) {
                return "revoked " + revoked.getRevocationReason();
            }
            if (t instanceof CertPathValidatorException path
                    && path.getReason() == CertPathValidatorException.BasicReason.UNDETERMINED_REVOCATION_STATUS) {
                return "undetermined " + path.getMessage();
            }
        }
        return "refused " + e;
    }

    static String validate(Map<String, String> options) throws Exception {
        var factory = CertificateFactory.getInstance("X.509");
        List<X509Certificate> chain = certificates(options.get("chain"));
        var parameters = new PKIXParameters(anchors(options));
        PKIXRevocationChecker checker = checker(options);
        if (options.containsKey("staple")) {
            checker.setOcspResponses(Map.of(chain.get(0), Files.readAllBytes(Path.of(options.get("staple")))));
        }
        if (!options.containsKey("crldp")) {
            parameters.addCertPathChecker(checker); // without it Java looks at lists, and fetches them by a system property
        }
        if (options.containsKey("crls")) {
            try (InputStream in = Files.newInputStream(Path.of(options.get("crls")))) {
                parameters.addCertStore(CertStore.getInstance("Collection", new CollectionCertStoreParameters(factory.generateCRLs(in))));
            }
        }
        CertPathValidator.getInstance("PKIX").validate(factory.generateCertPath(chain), parameters);
        if (!checker.getSoftFailExceptions().isEmpty()) {
            return "undetermined " + checker.getSoftFailExceptions();
        }
        return "good";
    }

    static String connect(Map<String, String> options) throws Exception {
        var parameters = new PKIXBuilderParameters(anchors(options), new X509CertSelector());
        parameters.addCertPathChecker(checker(options));
        var trust = TrustManagerFactory.getInstance("PKIX");
        trust.init(new CertPathTrustManagerParameters(parameters));
        var context = SSLContext.getInstance("TLS");
        context.init(null, trust.getTrustManagers(), null);
        try (var socket = (SSLSocket) context.getSocketFactory().createSocket("localhost", Integer.parseInt(options.get("port")))) {
            SSLParameters tls = socket.getSSLParameters();
            tls.setEndpointIdentificationAlgorithm("HTTPS");
            if (options.containsKey("protocol")) {
                tls.setProtocols(new String[] {options.get("protocol")});
            }
            socket.setSSLParameters(tls);
            socket.setSoTimeout(20_000);
            socket.startHandshake();
            return "good";
        }
    }

    /** Fetches a page as most programs do, with a system property (and one of security) as all that is said of revocation. */
    static String fetch(Map<String, String> options) throws Exception {
        Security.setProperty("ocsp.enable", options.get("ocsp"));
        try {
            var store = KeyStore.getInstance("PKCS12");
            store.load(null, null);
            store.setCertificateEntry("root", certificates(options.get("root")).get(0));
            var trust = TrustManagerFactory.getInstance("PKIX");
            trust.init(store);
            var context = SSLContext.getInstance("TLS");
            context.init(null, trust.getTrustManagers(), null);
            var connection = (HttpsURLConnection) new URI("https://localhost:" + options.get("port") + "/").toURL().openConnection();
            connection.setSSLSocketFactory(context.getSocketFactory());
            connection.setReadTimeout(20_000);
            try (InputStream body = connection.getInputStream()) {
                return new String(body.readAllBytes(), StandardCharsets.UTF_8).equals("hello\n") ? "good" : "refused another page";
            }
        } finally {
            Security.setProperty("ocsp.enable", "false");
        }
    }

    /** Serves until the process ends: whoever connects gets a handshake, with a staple that Java fetched itself. */
    static String serve(Map<String, String> options) throws Exception {
        char[] password = Files.readAllLines(Path.of(options.get("passwordfile"))).get(0).toCharArray();
        var store = KeyStore.getInstance("PKCS12");
        try (InputStream in = Files.newInputStream(Path.of(options.get("store")))) {
            store.load(in, password);
        }
        var keys = KeyManagerFactory.getInstance("PKIX");
        keys.init(store, password);
        var context = SSLContext.getInstance("TLS");
        context.init(keys.getKeyManagers(), null, null);
        var listener = (SSLServerSocket) context.getServerSocketFactory().createServerSocket(0, 50, InetAddress.getLoopbackAddress());
        var serving = new Thread(() -> {
            while (true) {
                try (var socket = (SSLSocket) listener.accept()) {
                    socket.setSoTimeout(20_000);
                    socket.startHandshake();
                    socket.getInputStream().read(); // until the client hangs up
                } catch (IOException e) {
                    System.err.println("serve: " + e); // a client that refuses us
                }
            }
        });
        serving.setDaemon(true);
        serving.start();
        return Integer.toString(listener.getLocalPort());
    }

    static PKIXRevocationChecker checker(Map<String, String> options) throws Exception {
        var checker = (PKIXRevocationChecker) CertPathValidator.getInstance("PKIX").getRevocationChecker();
        var chosen = EnumSet.noneOf(PKIXRevocationChecker.Option.class);
        for (String name : options.getOrDefault("options", "").split(",")) {
            if (!name.isEmpty()) {
                chosen.add(PKIXRevocationChecker.Option.valueOf(name));
            }
        }
        checker.setOptions(chosen);
        if (options.containsKey("responder")) {
            checker.setOcspResponder(new URI(options.get("responder")));
        }
        if (options.containsKey("nonce")) {
            checker.setOcspExtensions(List.of(new Nonce()));
        }
        return checker;
    }

    /** A nonce of 32 octets (RFC 9654, Section 2.1). */
    static final class Nonce implements Extension {
        private final byte[] value = new byte[34];

        Nonce() {
            byte[] random = new byte[32];
            new SecureRandom().nextBytes(random);
            value[0] = 4;
            value[1] = 32;
            System.arraycopy(random, 0, value, 2, 32);
        }

        @Override public String getId() { return "1.3.6.1.5.5.7.48.1.2"; }

        @Override public boolean isCritical() { return false; }

        @Override public byte[] getValue() { return value.clone(); }

        @Override public void encode(OutputStream out) throws IOException {
            byte[] id = {6, 9, 0x2b, 6, 1, 5, 5, 7, 0x30, 1, 2};
            out.write(new byte[] {0x30, (byte) (id.length + 2 + value.length)});
            out.write(id);
            out.write(new byte[] {4, (byte) value.length});
            out.write(value);
        }
    }

    static Set<TrustAnchor> anchors(Map<String, String> options) throws Exception {
        return Set.of(new TrustAnchor(certificates(options.get("root")).get(0), null));
    }

    static List<X509Certificate> certificates(String file) throws Exception {
        List<X509Certificate> all = new ArrayList<>();
        for (Certificate c : CertificateFactory.getInstance("X.509").generateCertificates(new ByteArrayInputStream(Files.readAllBytes(Path.of(file))))) {
            all.add((X509Certificate) c);
        }
        return all;
    }
}
