import com.hivemq.embedded.EmbeddedHiveMQ;
import java.nio.file.Files;
import java.nio.file.Path;

/** HiveMQ CE on a port of 127.0.0.1 that keeps what it has in a directory; until its standard input ends. */
class HiveMQ {
    public static void main(String[] args) throws Exception {
        String port = args[0];
        Path dir = Path.of(args[1]), conf = Files.createDirectories(dir.resolve("conf"));
        Files.writeString(conf.resolve("config.xml"), """
            <hivemq>
              <listeners><tcp-listener><port>%s</port><bind-address>127.0.0.1</bind-address></tcp-listener></listeners>
              <anonymous-usage-statistics><enabled>false</enabled></anonymous-usage-statistics>
            </hivemq>
            """.formatted(port));
        var broker = EmbeddedHiveMQ.builder().withConfigurationFolder(conf)
            .withDataFolder(Files.createDirectories(dir.resolve("data")))
            .withExtensionsFolder(Files.createDirectories(dir.resolve("extensions"))).build();
        broker.start().join();
        System.out.println("ready");
        while (System.in.read() >= 0) {
        }
        broker.stop().join();
        System.exit(0);
    }
}
