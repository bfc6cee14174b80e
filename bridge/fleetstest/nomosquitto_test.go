//go:build !realbroker

package fleetstest_test

// Without mosquitto on the machine the embedded broker has to do.
const withMosquitto = false
