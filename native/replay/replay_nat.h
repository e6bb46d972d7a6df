// Source NAT in a replay: one worker's part of it (core/translation.h), with frames in memory and the packets' times as its
// clock. Its key is a constant, so that the same packets get the same ports. Part of Replay, on its thread.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "../core/translation.h"
#include "../io/region.h"
#include "../io/source_nat.h"
#include "replay_sender.h"

namespace vx {

class ReplayNat final : Translation::Ways {
public:
	struct Host {
		TunnelHost tunnel;
		Face inside, outside;
		// The next hop's MAC for a packet from its Ethernet header on; false: there is no route.
		std::function<bool(const uint8_t *frame, uint8_t mac[6])> find_next_hop;
	};

	// `owners`: port_owners of the outside program.
	static Result<std::unique_ptr<ReplayNat>> make(const SourceNat &plan, std::span<vx_port_owners> owners, Host host,
						       ReplaySender &sender);

	PoolTables tables() const { return pool_tables(plan_, *blocks_); }
	// Does what the worker does between packets, up to that moment. Before each packet.
	void advance(uint64_t now_ns);
	// A packet, or an ARP request, that XDP handed over.
	void take(const vx_exception &exception, std::span<const uint8_t> frame);
	// Drops what is kept.
	void finish();
	nat::Stats stats() const { return engine_ ? engine_->stats() : nat::Stats{}; }

private:
	const SourceNat plan_;
	const Host host_;
	ReplaySender &sender_;
	Region frames_memory_, blocks_memory_, engine_memory_;
	std::optional<nat::PortBlocks> blocks_;
	std::optional<nat::Engine> engine_;  // from the first packet on, when its clock starts
	std::optional<Translation> translation_;
	std::vector<uint64_t> free_;
	uint64_t now_ns_ = 0, next_tick_ns_ = 0;

	ReplayNat(const SourceNat &plan, Host host, ReplaySender &sender);
	void begin(uint64_t now_ns);
	void tick(uint64_t now_ns);
	uint8_t *at(uint64_t address) { return reinterpret_cast<uint8_t *>(frames_memory_.bytes().data()) + address; }
	std::span<uint8_t> bytes_of(Frame frame) { return {at(frame.address), frame.length}; }

	bool has_frames(uint32_t count) override { return free_.size() >= count; }
	uint64_t take_frame() override;
	void put_frame(uint64_t address) override;
	void send_outside(Frame frame, const uint8_t destination_mac[6]) override;
	void route(Frame frame, uint64_t now_ns) override;
	void send_ready(vx_direction to, Frame frame) override;
	bool inside_sends() override { return true; }
	uint32_t begin_pieces(uint32_t count) override;
	void send_piece(Frame frame, uint32_t pieces) override;
	void drop(Frame frame, vx_drop reason) override;
	bool hand_over(uint32_t worker, Frame frame, nat::Stage stage) override;
};

}  // namespace vx
