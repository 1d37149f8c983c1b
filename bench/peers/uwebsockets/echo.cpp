// uwebsockets is the WebSocket echo on uWebSockets: one thread with one loop, no TLS, no
// compression. Each message comes back unchanged. bench/compare compiles it against a
// checkout of uWebSockets, which isn't part of this repository.
//
//	uwebsockets --addr 127.0.0.1:PORT
//
// It prints "ready ws://127.0.0.1:PORT/" and serves until a signal ends it.

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <string_view>

#include "App.h"

namespace {

struct Session {};

// The limits of the other rivals, in bytes.
constexpr unsigned max_message = 1 << 20;
constexpr unsigned max_unsent = 16 << 20;

}  // namespace

int main(int argc, char **argv) {
	std::string addr = argc == 3 && std::strcmp(argv[1], "--addr") == 0 ? argv[2] : "";
	std::size_t colon = addr.rfind(':');
	if (colon == std::string::npos) {
		std::fprintf(stderr, "usage: uwebsockets --addr HOST:PORT\n");
		return 2;
	}
	std::string host = addr.substr(0, colon);
	bool listening = false;
	uWS::App().ws<Session>("/*", {
		.compression = uWS::DISABLED,
		.maxPayloadLength = max_message,
		.idleTimeout = 0,
		.maxBackpressure = max_unsent,
		.sendPingsAutomatically = false,
		.message = [](auto *ws, std::string_view message, uWS::OpCode op) { ws->send(message, op); },
	}).listen(host, std::atoi(addr.c_str() + colon + 1), [&](us_listen_socket_t *socket) {
		if (socket == nullptr) {
			return;
		}
		listening = true;
		int port = us_socket_local_port(0, reinterpret_cast<us_socket_t *>(socket));
		std::printf("ready ws://%s:%d/\n", host.c_str(), port);
		std::fflush(stdout);
	}).run();
	if (!listening) {
		std::fprintf(stderr, "uwebsockets: can't listen on %s\n", addr.c_str());
	}
	return 1;
}
