// Go's own client, as its documentation shows it, keeping as many connections as there are tasks.
package main

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"sort"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

func cpu() time.Duration {
	var used syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &used)
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}

func peak() string {
	status, _ := os.ReadFile("/proc/self/status")
	for _, line := range strings.Split(string(status), "\n") {
		if fields := strings.Fields(line); len(fields) > 1 && fields[0] == "VmHWM:" {
			return fields[1]
		}
	}
	return "0"
}

func main() {
	url := "http://127.0.0.1:" + os.Args[1] + os.Args[2]
	tasks, _ := strconv.Atoi(os.Args[3])
	requests, _ := strconv.Atoi(os.Args[4])
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: tasks}}
	ask := func() bool {
		answer, err := client.Get(url)
		if err != nil {
			return false
		}
		defer answer.Body.Close()
		_, err = io.Copy(io.Discard, answer.Body)
		return err == nil && answer.StatusCode < 400
	}
	// What is made once is no cost of a request.
	ask()
	left, well := int64(requests), int64(0)
	var lock sync.Mutex
	var latencies []time.Duration
	var all sync.WaitGroup
	before, began := cpu(), time.Now()
	for i := 0; i < tasks; i++ {
		all.Add(1)
		go func() {
			defer all.Done()
			var own []time.Duration
			for atomic.AddInt64(&left, -1) >= 0 {
				began := time.Now()
				if ask() {
					atomic.AddInt64(&well, 1)
				}
				own = append(own, time.Since(began))
			}
			lock.Lock()
			latencies = append(latencies, own...)
			lock.Unlock()
		}()
	}
	all.Wait()
	took, used := time.Since(began), cpu()-before
	sort.Slice(latencies, func(a, b int) bool { return latencies[a] < latencies[b] })
	at := func(share int) int64 { return latencies[len(latencies)*share/100].Microseconds() }
	fmt.Printf("%.0f\t%.3f\t%d\t%d\t%s\t%.4f\n", float64(requests)/took.Seconds(),
		used.Seconds()/float64(requests)*1e5, at(50), at(99), peak(), float64(well)/float64(requests))
}
