package schemas

import (
	"fmt"
	"math/big"
	"math/rand/v2"
	"testing"

	"fleetbridge/internal/race"
)

// checkNumbers compares what decimals say about two numbers with what big.Rat says.
func checkNumbers(t *testing.T, a, b string) {
	t.Helper()
	x, y := rat([]byte(a)), rat([]byte(b))
	by := newBound(y)
	if got, want := by.compare([]byte(a)), x.Cmp(y); got != want {
		t.Errorf("%s compared with %s: %d, want %d", a, b, got, want)
	}
	if got, want := sameNumber([]byte(a), []byte(b)), x.Cmp(y) == 0; got != want {
		t.Errorf("%s equals %s: %v", a, b, got)
	}
	if got, want := isInteger([]byte(a)), x.IsInt(); got != want {
		t.Errorf("%s is an integer: %v", a, got)
	}
	if y.Sign() > 0 {
		if got, want := by.divides([]byte(a)), new(big.Rat).Quo(x, y).IsInt(); got != want {
			t.Errorf("%s is a multiple of %s: %v", a, b, got)
		}
	}
}

func TestDecimals(t *testing.T) {
	for _, a := range someNumbers {
		for _, b := range someNumbers {
			checkNumbers(t, a, b)
		}
	}
	for _, c := range [][2]string{
		{"18446744073709551615", "18446744073709551616"}, {"9999999999999999999", "9999999999999999999.0"},
		{"1e19", "3"}, {"1e38", "7"}, {"1e38", "9999999999999999999"}, {"10000000000000000000e19", "0.5"},
		{"1", "1e20"}, {"1e20", "1e20"}, {"1e-20", "1e-1"}, {"5e18", "1e19"}, {"-30", "1e1"}, {"0.000", "0.3"},
		{"00012e-2"[3:], "0.12"}, {"1.10", "1.1"}, {"100.00e-2", "1"}, {"-0", "0.0"},
	} {
		checkNumbers(t, c[0], c[1])
		checkNumbers(t, c[1], c[0])
	}
	d := dice{then: rand.New(rand.NewPCG(3, 4))}
	for range race.Part(20_000) {
		checkNumbers(t, d.number(), d.number())
	}
}

// Ordinary numbers must not need big.Rat.
func TestOrdinaryNumbersAreDecimals(t *testing.T) {
	for text, want := range map[string]string{
		"0": "{false 0 0 0}", "-0.00e7": "{false 0 0 0}", "1780000000123": "{false 1780000000123 13 0}", "-12.50": "{true 125 3 -1}",
		"9007199254740991": "{false 9007199254740991 16 0}", "0.00025": "{false 25 2 -5}", "1200E-1": "{false 12 2 1}",
		"9999999999999999999": "{false 9999999999999999999 19 0}",
	} {
		if d, ok := parseDecimal([]byte(text)); !ok || fmt.Sprint(d) != want {
			t.Errorf("%s: %v %v, want %s", text, d, ok, want)
		}
	}
}

func FuzzDecimal(f *testing.F) {
	for i, a := range someNumbers {
		f.Add(a, someNumbers[len(someNumbers)-1-i])
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		for _, text := range []string{a, b} {
			var s scanner
			if s.scan([]byte(text), Limits{}) != nil || len(s.tokens) != 1 || s.tokens[0].is != typeNumber || len(s.textAt(0)) != len(text) {
				return
			}
		}
		checkNumbers(t, a, b)
	})
}
