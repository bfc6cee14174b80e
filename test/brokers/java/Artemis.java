import java.io.File;
import org.apache.activemq.artemis.core.config.impl.ConfigurationImpl;
import org.apache.activemq.artemis.core.server.JournalType;
import org.apache.activemq.artemis.core.server.embedded.EmbeddedActiveMQ;

/** ActiveMQ Artemis that speaks MQTT on a port of 127.0.0.1 and keeps what it has in a directory; until its standard input ends. */
class Artemis {
    public static void main(String[] args) throws Exception {
        String port = args[0], dir = args[1];
        var c = new ConfigurationImpl();
        c.setBrokerInstance(new File(dir));
        c.setJournalDirectory("journal").setBindingsDirectory("bindings").setPagingDirectory("paging").setLargeMessagesDirectory("large");
        c.setPersistenceEnabled(true).setJournalType(JournalType.NIO).setMaxDiskUsage(-1);
        c.setSecurityEnabled(false);
        c.addAcceptorConfiguration("mqtt", "tcp://127.0.0.1:" + port + "?protocols=MQTT");
        var broker = new EmbeddedActiveMQ().setConfiguration(c);
        broker.start();
        System.out.println("ready");
        while (System.in.read() >= 0) {
        }
        broker.stop();
        System.exit(0);
    }
}
