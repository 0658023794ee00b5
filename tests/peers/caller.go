// A service in Go with net/http: the three exchanges of caller.py.
//
//	caller TARGET_URL
//	caller --answers GATEWAY_HOST GATEWAY_PORT COUNT
//
// The second form asks for /0, /1, … and prints {"status", "body"} or {"error"}, as answers.py does. The proxy stands in HTTP_PROXY and HTTPS_PROXY, the authority in SSL_CERT_FILE.
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"
)

func answers(gateway string, count int) {
	client := &http.Client{
		Timeout:       30 * time.Second,
		Transport:     &http.Transport{DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	for number := 0; number < count; number++ {
		line := map[string]any{}
		request, err := http.NewRequest("POST", fmt.Sprintf("http://%s/%d", gateway, number), strings.NewReader("x"))
		if err != nil {
			log.Fatal(err)
		}
		request.Host = "api.test"
		response, err := client.Do(request)
		if err == nil {
			var body []byte
			body, err = io.ReadAll(response.Body)
			response.Body.Close()
			line = map[string]any{"status": response.StatusCode, "body": string(body)}
		}
		if err != nil {
			line = map[string]any{"error": err.Error()}
		}
		json.NewEncoder(os.Stdout).Encode(line)
	}
}

func main() {
	if os.Args[1] == "--answers" {
		count, err := strconv.Atoi(os.Args[4])
		if err != nil {
			log.Fatal(err)
		}
		answers(os.Args[2]+":"+os.Args[3], count)
		return
	}
	url := os.Args[1]
	note, _ := json.Marshal(map[string]string{"note": strings.Repeat("n", 2000)})
	// Nothing but a reader: net/http does not know its length, and sends chunks.
	upload := io.MultiReader(bytes.NewReader(bytes.Repeat([]byte("x"), 300_000)))
	client := &http.Client{Timeout: 30 * time.Second}
	for _, request := range []struct {
		method string
		body   io.Reader
	}{{"GET", nil}, {"POST", bytes.NewReader(note)}, {"POST", upload}} {
		sent, err := http.NewRequest(request.method, url, request.body)
		if err != nil {
			log.Fatal(err)
		}
		response, err := client.Do(sent)
		if err != nil {
			log.Fatal(err)
		}
		body, err := io.ReadAll(response.Body)
		if err != nil {
			log.Fatal(err)
		}
		response.Body.Close()
		json.NewEncoder(os.Stdout).Encode(map[string]any{
			"status": response.StatusCode, "body": string(body), "version": response.Proto,
		})
	}
}
