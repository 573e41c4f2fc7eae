package main

import (
	"encoding/xml"
	"fmt"
	"io"
	"strings"

	"plantmesh/edge/agent"
	"plantmesh/edge/quality"
	"plantmesh/proto/answer"
)

// What a CI server reads of tests: the elements of JUnit's reports that all of them know.
type (
	junitSuites struct {
		XMLName  xml.Name     `xml:"testsuites"`
		Name     string       `xml:"name,attr"`
		Tests    int          `xml:"tests,attr"`
		Failures int          `xml:"failures,attr"`
		Errors   int          `xml:"errors,attr"`
		Suites   []junitSuite `xml:"testsuite"`
	}
	junitSuite struct {
		Name     string      `xml:"name,attr"`
		Tests    int         `xml:"tests,attr"`
		Failures int         `xml:"failures,attr"`
		Errors   int         `xml:"errors,attr"`
		Skipped  int         `xml:"skipped,attr"`
		Cases    []junitCase `xml:"testcase"`
	}
	junitCase struct {
		Name    string        `xml:"name,attr"`
		Class   string        `xml:"classname,attr"`
		File    string        `xml:"file,attr"`
		Line    int           `xml:"line,attr"`
		Failure *junitFailure `xml:"failure"`
	}
	junitFailure struct {
		Message string `xml:"message,attr"`
		Type    string `xml:"type,attr"`
		Text    string `xml:",chardata"`
	}
)

// junit writes how tests went as JUnit's XML.
func junit(to io.Writer, done []agent.RulesTested) error {
	all := junitSuites{Name: "plantmesh-edge rules test"}
	for _, f := range done {
		s := junitSuite{Name: short(f.File), Tests: len(f.Tests)}
		for i := range f.Tests {
			c := junitOf(&f.Tests[i])
			if c.Failure != nil {
				s.Failures++
			}
			s.Cases = append(s.Cases, c)
		}
		all.Suites = append(all.Suites, s)
		all.Tests, all.Failures = all.Tests+s.Tests, all.Failures+s.Failures
	}
	b, err := xml.MarshalIndent(all, "", "  ")
	if err == nil {
		_, err = io.WriteString(to, xml.Header+string(b)+"\n")
	}
	if err != nil {
		return fmt.Errorf("write the result: %w", err)
	}
	return nil
}

// junitOf is one test; its signal is its class, so that a CI server shows those of a signal together.
func junitOf(t *quality.Tested) junitCase {
	c := junitCase{Name: t.Name, Class: t.Signal, File: t.File, Line: t.Line}
	if !t.Passed {
		c.Failure = &junitFailure{Message: strings.Join(t.Wrong[:min(len(t.Wrong), 1)], ""), Type: string(answer.RulesFailed), Text: strings.Join(t.Wrong, "\n")}
	}
	return c
}
