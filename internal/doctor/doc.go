// Package doctor looks at everything that a bridge with a configuration needs, by using it: names,
// connections, certificates, clocks, logins, permissions, NATS and the disk. It changes nothing: no
// message is stored or acknowledged, no report or event is sent, and a bridge that runs keeps its
// sessions.
package doctor
