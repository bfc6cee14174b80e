// Package doctor tries everything that a configuration needs: names,
// connections, certificates, clocks, logins, permissions, NATS and the disk. It changes nothing: no
// message is stored or acknowledged, no report or event is sent, and a bridge that runs keeps its
// sessions.
package doctor
