package gateway

import "time"

// Config is the whole configuration of a gateway. Its tags are the one declaration of the keys: yaml
// names the key, default is spelled as in a file, doc and unit stand in the generated reference,
// and so does else, in the place of a default; oneof lists the allowed words; fixed marks what a
// running gateway can't change, a whole section or a key. Load returns it complete: defaults filled in, ${NAME} and _file
// keys resolved, paths joined to the directory of the file.
type Config struct {
	MQTT          MQTT          `yaml:"mqtt" doc:"the sessions with the MQTT broker"`
	Fleets        Fleets        `yaml:"fleets" doc:"the Fleets HTTP API. Without it, the bridge knows a shadow only after the cloud sends it"`
	Things        []Thing       `yaml:"things" else:"required without nats.url" doc:"the Things whose sessions this gateway holds"`
	ThingsDir     string        `yaml:"things_dir" unit:"path" doc:"directory of more Things. Its files *.yaml, each with its own things: and local.users:, count as parts of this file. fleetbridge things adds and removes such files"`
	ThingDefaults ThingDefaults `yaml:"thing_defaults" doc:"what holds for a Thing that leaves a setting out. In each value, {token} stands for the Thing's name as a subject token"`
	NATS          NATS          `yaml:"nats" fixed:"yes" doc:"the NATS server that programs connect to"`
	Cluster       Cluster       `yaml:"cluster" fixed:"yes" doc:"several bridges that share the Things on one NATS cluster (nats.url). A Thing is at one of them at a time"`
	Local         Local         `yaml:"local" doc:"the programs on the gateway"`
	Shadow        Shadow        `yaml:"shadow" doc:"device shadows"`
	Requests      Requests      `yaml:"requests" doc:"questions to the cloud"`
	Commands      Commands      `yaml:"commands" doc:"commands from the cloud"`
	Limits        Limits        `yaml:"limits" fixed:"yes" doc:"limits of payloads, both ways, and of the bridge's memory"`
	HTTP          HTTP          `yaml:"http" fixed:"yes" doc:"health and metrics"`
	Console       Console       `yaml:"console" doc:"the console: a page for people, and its API"`
	Traces        Traces        `yaml:"traces" fixed:"yes" doc:"traces of messages, for OpenTelemetry"`
	Log           Log           `yaml:"log" doc:"the log on standard error"`

	// Warnings are findings that do not keep the gateway from starting; Run logs them once.
	Warnings []Problem `yaml:"-"`
	// Exposed are secrets that other users of this machine can read.
	Exposed []Exposure `yaml:"-"`

	dir     string            `yaml:"-"` // of the file
	origins map[string]string `yaml:"-"` // of Things, by name
}

// MQTT is how every Thing's session is held.
type MQTT struct {
	Server         []string      `yaml:"server" else:"required" unit:"URL or list" doc:"the broker: mqtt, mqtts, ws or wss, host and port; the members of a list are tried in turn"`
	TLS            TLS           `yaml:"tls" doc:"for mqtts and wss"`
	KeepAlive      time.Duration `yaml:"keep_alive" default:"30s" doc:"longest silence on a connection, whole seconds up to 65535s"`
	SessionExpiry  time.Duration `yaml:"session_expiry" fixed:"yes" default:"168h" doc:"how long the broker keeps the session of a gateway that is away, whole seconds"`
	ReceiveMaximum int           `yaml:"receive_maximum" default:"1024" unit:"messages" doc:"how many unacknowledged messages the broker may send, 1 to 65535"`
	Subscriptions  string        `yaml:"subscriptions" default:"exact" oneof:"exact compact" doc:"the 13 filters of the protocol page (exact), or 8 wider ones for brokers with a quota (compact)"`
	MaxPublishRate float64       `yaml:"max_publish_rate" default:"0" unit:"messages/s" doc:"per Thing; 0: no limit"`
	AckTimeout     time.Duration `yaml:"ack_timeout" default:"30s" doc:"when messages are in flight, and neither a PUBACK nor any byte has come for so long, the bridge connects again"`
	ConnectTimeout time.Duration `yaml:"connect_timeout" default:"60s" doc:"how long nothing may come before CONNACK, and again before SUBACK. It is shorter while other servers or addresses remain to be tried"`
	AllowQoS0      bool          `yaml:"allow_qos_0" default:"false" doc:"what to do with a broker that has Maximum QoS 0, and so acknowledges nothing. true: send to it; a message that is written counts as delivered and may be lost. false: send nothing; the Thing is not ready"`
}

// TLS names the files of a TLS client.
type TLS struct {
	CAFile     string `yaml:"ca_file" unit:"path" doc:"PEM certificates to trust instead of the system's"`
	CertFile   string `yaml:"cert_file" unit:"path" doc:"PEM client certificate, with key_file"`
	KeyFile    string `yaml:"key_file" unit:"path" doc:"PEM private key of cert_file"`
	ServerName string `yaml:"server_name" doc:"the name to expect in the server's certificate instead of the host"`
}

// KeyPair names the files of a client certificate.
type KeyPair struct {
	CertFile string `yaml:"cert_file" else:"that of mqtt.tls" unit:"path" doc:"PEM client certificate of this Thing, with key_file"`
	KeyFile  string `yaml:"key_file" else:"that of mqtt.tls" unit:"path" doc:"PEM private key of cert_file"`
}

// withTLS is t with this pair in the place of its own, if there is one.
func (p KeyPair) withTLS(t TLS) TLS {
	if p != (KeyPair{}) {
		t.CertFile, t.KeyFile = p.CertFile, p.KeyFile
	}
	return t
}

// ListenTLS names the files of a TLS listener. Without a certificate the listener speaks no TLS.
type ListenTLS struct {
	CertFile string `yaml:"cert_file" unit:"path" doc:"PEM certificate of the listener, with key_file; empty: no TLS"`
	KeyFile  string `yaml:"key_file" unit:"path" doc:"PEM private key of cert_file"`
	CAFile   string `yaml:"ca_file" unit:"path" doc:"PEM certificates of the authorities that sign the clients' certificates; each client must then show one. Empty: clients need no certificate"`
}

func (l ListenTLS) files() TLS {
	return TLS{CAFile: l.CAFile, CertFile: l.CertFile, KeyFile: l.KeyFile}
}

// Fleets is the Fleets HTTP API. An empty URL: not used.
type Fleets struct {
	URL           string `yaml:"url" unit:"URL" doc:"base URL, https; empty: not used"`
	APIKey        Secret `yaml:"api_key" else:"required with url" doc:"API key of the deployment"`
	APISecret     Secret `yaml:"api_secret" else:"required with url" doc:"the key's secret; or write api_secret_file"`
	APISecretFile string `yaml:"api_secret_file" unit:"path" doc:"file that holds the secret"`
	TLS           TLS    `yaml:"tls" doc:"for https"`
}

// Thing is one Thing and its login at the broker.
type Thing struct {
	Name         string  `yaml:"name" else:"required" doc:"the Thing's name in Fleets, unique"`
	ClientID     string  `yaml:"client_id" else:"the name" doc:"its MQTT client ID, unique"`
	Username     string  `yaml:"username" doc:"broker login"`
	Password     Secret  `yaml:"password" doc:"broker password"`
	PasswordFile string  `yaml:"password_file" unit:"path" doc:"file that holds the password"`
	TLS          KeyPair `yaml:"tls" doc:"client certificate of this Thing"`
	SchemaDir    string  `yaml:"schema_dir" unit:"path" doc:"directory of schemas of its own: reported.schema.json, events/{type}.schema.json, commands/{action}.schema.json"`
	ThingType    string  `yaml:"thing_type" unit:"path" doc:"file with its Fleets Thing Type, as JSON: what its reports, events, command params and results must look like. With schema_dir both hold"`
	TypeName     string  `yaml:"thing_type_name" doc:"name of its Fleets Thing Type, which the bridge gets from the Fleets API (fleets.url) at each start and reload, instead of thing_type. It keeps the last one in nats.embedded.store_dir; until it has one, it checks nothing by it"`
}

// ThingDefaults are keys of Things, with placeholders. The paths are complete.
type ThingDefaults struct {
	Username     string  `yaml:"username" doc:"broker login. {name} and {client_id} stand for the Thing's, too"`
	PasswordFile string  `yaml:"password_file" unit:"path" doc:"file that holds the broker password"`
	TLS          KeyPair `yaml:"tls" doc:"client certificate"`
	SchemaDir    string  `yaml:"schema_dir" unit:"path" doc:"directory of schemas"`
	ThingType    string  `yaml:"thing_type" unit:"path" doc:"file with a Fleets Thing Type"`
	TypeName     string  `yaml:"thing_type_name" doc:"name of a Fleets Thing Type"`
}

// NATS is the server that programs connect to.
type NATS struct {
	URL       NATSURL  `yaml:"url" unit:"URL" doc:"a NATS server or cluster with JetStream, several joined by commas; empty: the embedded server"`
	CredsFile string   `yaml:"creds_file" unit:"path" doc:"credentials file for url"`
	TLS       TLS      `yaml:"tls" doc:"for url"`
	Prefix    string   `yaml:"prefix" default:"fleets" doc:"first part of every subject, not beginning with _; streams and buckets are named after it in upper case"`
	Replicas  int      `yaml:"replicas" default:"1" doc:"copies of streams and buckets, 1 to 5; more than 1 needs a cluster"`
	Embedded  Embedded `yaml:"embedded" doc:"the embedded server, when url is empty"`
	Up        Up       `yaml:"up" doc:"what is stored on its way to the cloud"`
	Down      Down     `yaml:"down" doc:"what came from the cloud and can be replayed"`
}

// Embedded is the NATS server in the gateway's own process.
type Embedded struct {
	Listen   string    `yaml:"listen" default:"127.0.0.1:4222" unit:"host:port" doc:"where programs connect; without local.users on a loopback address only"`
	StoreDir string    `yaml:"store_dir" default:"fleetbridge-data" unit:"path" doc:"directory for messages, and for the socket that fleetbridge tail, trace, bundle and console use; with url only for the socket"`
	TLS      ListenTLS `yaml:"tls" doc:"of the listener"`
	Sync     Sync      `yaml:"sync" default:"always" unit:"always or duration" doc:"when reports and events from programs are synced to the disk: before they are acknowledged (always), or once in an interval. With an interval, a power cut may lose those of the last interval. All else is synced before it is acknowledged"`
}

// Up bounds the streams of what programs publish. A full stream refuses more.
type Up struct {
	MaxBytes Size          `yaml:"max_bytes" default:"1GiB" doc:"size of each of the two queues to the cloud, control (commands and jobs) and telemetry (shadow and events), and of the dead letters. A full queue refuses more. With the embedded server each message counts as 256 bytes more than its size"`
	MaxAge   time.Duration `yaml:"max_age" default:"168h" doc:"older messages become dead letters; 0: never"`
}

// Down bounds the stream of what came from the cloud. A full stream forgets the oldest.
type Down struct {
	MaxBytes Size          `yaml:"max_bytes" default:"256MiB" doc:"size of the stream with what came from the cloud; when it is full, the oldest messages go"`
	MaxAge   time.Duration `yaml:"max_age" default:"24h" doc:"how long messages can be replayed; 0: no limit"`
}

// Cluster is this bridge's place among others.
type Cluster struct {
	Shards int           `yaml:"shards" default:"0" doc:"into how many parts the Things are divided, which the bridges share. 0: this bridge is alone. 1: one bridge is active, and all others stand by. 2 to 64: all bridges are active; take four or more for each bridge. It can never change. Needs nats.url"`
	ID     string        `yaml:"id" else:"the host's name" doc:"unique name of this bridge, the same after a restart"`
	Beat   time.Duration `yaml:"beat" default:"1s" doc:"how often a bridge says that it is there, 100ms to 2s, the same for all bridges. A bridge that misses five beats is taken over"`
	// BrokerGrace is longer than a broker's restart takes: a Thing that moves is without a connection, too.
	BrokerGrace time.Duration `yaml:"broker_grace" default:"30s" doc:"how long a bridge of which no Thing is connected keeps its Things while another bridge reaches the broker. Then they go to the others, and it stays away until it reaches the broker, for as long again at least. 0: for ever"`
}

// On reports whether there may be other bridges.
func (c Cluster) On() bool { return c.Shards > 0 }

// Local lists the programs that may connect to the embedded server.
type Local struct {
	Users []User   `yaml:"users" doc:"logins of programs. A reload adds and removes users; only the first and the last need a restart. Without users, every process on this machine may connect. With nats.url, fleetbridge acl prints the users as accounts of that server"`
	Bus   []string `yaml:"bus" else:"none" unit:"list" doc:"subjects that all users may use among themselves, such as app.>. The first name is neither nats.prefix nor one of NATS's own; > may stand at the end. A reload that changes them ends the users' connections. Without users, programs may use any subject"`
}

// User is the login of a program and what it may do.
type User struct {
	Name         string   `yaml:"name" else:"required" doc:"login name, of A-Z a-z 0-9 _ -, unique"`
	Password     Secret   `yaml:"password" doc:"password or its bcrypt hash; exactly one of password, password_file and nkey is needed"`
	PasswordFile string   `yaml:"password_file" unit:"path" doc:"file that holds the password or its bcrypt hash"`
	NKey         string   `yaml:"nkey" doc:"public user key, U…"`
	Things       []string `yaml:"things" else:"all" unit:"list" doc:"the Things it may act for"`
	Allow        []string `yaml:"allow" default:"report events commands jobs read" oneof:"report events commands jobs read" unit:"list" doc:"what it may do for them"`
}

// Shadow is how reports are treated.
type Shadow struct {
	Report string `yaml:"report" default:"merged" oneof:"merged as_sent" doc:"reports are merged and published whole (merged), or forwarded as they are (as_sent)"`
}

// Requests is how questions to the cloud are treated.
type Requests struct {
	Timeout time.Duration `yaml:"timeout" default:"10s" doc:"longest wait for the cloud's answer"`
}

// Commands is how commands from the cloud are treated.
type Commands struct {
	NoHandler   string        `yaml:"no_handler" default:"reject" oneof:"reject wait" doc:"what becomes of a command that nobody serves. reject: the bridge answers REJECTED. wait: until the command's ttl, a program may answer it on fleets.up.{t}.commands.{id}.response"`
	HandlerWait time.Duration `yaml:"handler_wait" default:"5s" doc:"how long to wait for a program that serves the command"`
	DefaultTTL  time.Duration `yaml:"default_ttl" default:"60s" doc:"for commands without a ttl"`
	ClockSkew   time.Duration `yaml:"clock_skew" default:"5s" doc:"how far this clock may be ahead of the cloud's"`
}

// Limits bounds payloads, both ways, and memory.
type Limits struct {
	Payload Size   `yaml:"payload" default:"128KiB" doc:"largest payload, at most 8MiB"`
	Depth   int    `yaml:"depth" default:"64" unit:"levels" doc:"deepest nesting of JSON, 1 to 1000"`
	Memory  Memory `yaml:"memory" default:"auto" unit:"auto or size" doc:"what the bridge may take, 64MiB or more; auto: a quarter of the machine or its container, 64MiB to 256MiB. An eighth is for messages between the brokers and the store (when it is full, the brokers are not read), an eighth for commands under way. Unless GOMEMLIMIT is set, a size is also Go's memory limit; with auto that is nine tenths of the container"`
}

// HTTP is the listener of /healthz, /readyz and /metrics.
type HTTP struct {
	Listen string `yaml:"listen" default:"127.0.0.1:9321" unit:"host:port" doc:"where /healthz, /readyz and /metrics are served; empty: nowhere"`
}

// Console is the listener of the page for people.
type Console struct {
	Listen    string        `yaml:"listen" fixed:"yes" default:"127.0.0.1:9322" unit:"host:port" doc:"where the console is served; on other addresses than loopback only with tls or plain_http; empty: nowhere"`
	Hosts     []string      `yaml:"hosts" fixed:"yes" else:"none" unit:"list" doc:"host names by which browsers may reach it, besides localhost and IP addresses, such as gw.example.lan"`
	TLS       ListenTLS     `yaml:"tls" fixed:"yes" doc:"of the listener"`
	PlainHTTP bool          `yaml:"plain_http" fixed:"yes" default:"false" doc:"allows any address in listen without tls. Set it when TLS ends in front of the bridge, or when only a container network reaches it. Everybody still needs a login"`
	Users     []ConsoleUser `yaml:"users" doc:"who may log in with a password. Without users, a link of fleetbridge console is the only way in. A reload adds and removes users; who is removed, or gets another password or role, is logged out"`
	Actions   []string      `yaml:"actions" fixed:"yes" default:"replay discard doctor" oneof:"replay discard doctor send" unit:"list" doc:"what operators may do: replay and discard dead letters, have the bridge examined as fleetbridge doctor does, send messages as programs do"`
}

// ConsoleUser is the login of a person.
type ConsoleUser struct {
	Name         string `yaml:"name" else:"required" doc:"login name, of A-Z a-z 0-9 _ -, unique"`
	Password     Secret `yaml:"password" doc:"password or its bcrypt hash, of cost 14 at most; or write password_file"`
	PasswordFile string `yaml:"password_file" unit:"path" doc:"file that holds the password or its bcrypt hash"`
	Role         string `yaml:"role" default:"viewer" oneof:"viewer operator" doc:"viewer: sees everything but the configuration. operator: also that, and may do what actions lists"`
}

// Traces is where spans go. An empty endpoint: nowhere.
type Traces struct {
	Endpoint string  `yaml:"endpoint" unit:"URL" doc:"base URL of a collector that takes OTLP by HTTP, such as http://127.0.0.1:4318; empty: no traces. The variables OTEL_… set more"`
	Sample   float64 `yaml:"sample" default:"1" unit:"0 to 1" doc:"the share of messages that are traced, of those without a traceparent. A message with a traceparent is traced if its flag says so"`
}

// Log is how the log is written.
type Log struct {
	Level  string `yaml:"level" default:"info" oneof:"debug info warn error" doc:"lowest level that is logged"`
	Format string `yaml:"format" fixed:"yes" default:"text" oneof:"text json" doc:"how lines are written"`
}

// Words of the oneof keys that code decides by.
const (
	SubscriptionsExact   = "exact"
	SubscriptionsCompact = "compact"
	ReportMerged         = "merged"
	ReportAsSent         = "as_sent"
	NoHandlerReject      = "reject"
	NoHandlerWait        = "wait"
	AllowReport          = "report"
	AllowEvents          = "events"
	AllowCommands        = "commands"
	AllowJobs            = "jobs"
	AllowRead            = "read"
)
