//go:build unix

package main

import (
	"math"
	"slices"
	"strings"
	"testing"
)

// walk is what a thermostat reports on its way from 18 degrees to one target after the other.
func walk(legs ...[2]float64) []float64 {
	out := []float64{18}
	for _, leg := range legs {
		for range int(leg[1]) {
			before := out[len(out)-1]
			out = append(out, math.Round((before+(leg[0]-before)*0.2)*100)/100)
		}
	}
	return out
}

func TestSteps(t *testing.T) {
	whole := walk([2]float64{30, 5}, [2]float64{10, 13}, [2]float64{12, 8})
	if back := slices.Index(whole, 11.1); back < 0 || !slices.Contains(whole[back+1:], 11.1) {
		t.Fatalf("%v does not come to 11.1 twice", whole)
	}
	if err := steps(whole); err != nil {
		t.Error(err)
	}
	again := append(slices.Clone(whole[:9]), whole[6:]...)
	if err := steps(again); err != nil {
		t.Errorf("with redeliveries: %v", err)
	}
	if err := steps(append(slices.Clone(whole), walk([2]float64{21, 3})...)); err != nil {
		t.Errorf("with a new start: %v", err)
	}
	for i := 1; i < len(whole)-1; i++ {
		if whole[i-1] == whole[i+1] {
			continue // there and back: looks like a redelivery
		}
		if err := steps(slices.Delete(slices.Clone(whole), i, i+1)); err == nil || !strings.Contains(err.Error(), "missing") {
			t.Errorf("without %v: %v", whole[i], err)
		}
	}
	if err := steps(whole[:9]); err == nil {
		t.Error("a few are enough")
	}
}
