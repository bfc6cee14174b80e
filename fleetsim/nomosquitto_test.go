//go:build !realbroker

package fleetsim_test

// Without mosquitto on the machine the embedded broker has to do.
const withMosquitto = false
