package fhir

import (
	"strings"
	"testing"
)

func TestADocumentOfNothingButBracketsIsRefusedBeforeItIsRead(t *testing.T) {
	for in, ok := range map[string]bool{
		`{"resourceType":"Patient"}`:                                  true,
		`{"x":"` + strings.Repeat(`,[{\"`, MaxValues) + `"}`:          true, // inside a string
		`[` + strings.Repeat(`[],`, MaxValues) + `0]`:                 false,
		`{"a":[` + strings.Repeat(`0,`, MaxValues) + `0]}`:            false,
		`{"a":[` + strings.Repeat(`{"b":"c"},`, MaxValues/3) + `{}]}`: true,
	} {
		if err := CheckCost([]byte(in)); (err == nil) != ok || err != nil && !Is(err, TooCostly) {
			t.Errorf("%.20s…: %v", in, err)
		}
	}
}
