// What the tests share: checks that count, and bundles that are changed and sealed again.
#pragma once

#include <cstdio>
#include <fstream>
#include <iterator>
#include <string>

#include "../caloforge.hpp"

inline int failures = 0;
#define CHECK(condition)                                                                    \
    do {                                                                                    \
        if (!(condition)) ++failures, std::printf("%s:%d: %s\n", __FILE__, __LINE__, #condition); \
    } while (false)

namespace fs = std::filesystem;

inline std::string read(const fs::path& path) {
    std::ifstream file(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
}
inline void write(const fs::path& path, const std::string& content) {
    std::ofstream(path, std::ios::binary).write(content.data(), static_cast<std::streamsize>(content.size()));
}

/// The three files of a bundle that C++ reads.
struct Files {
    std::string config, geometry, weights;

    explicit Files(const fs::path& bundle)
        : config(read(bundle / "config.json")), geometry(read(bundle / "geometry.xml")),
          weights(read(bundle / "weights.safetensors")) {}

    /// Write them, with the checksums that they have now if the bundle is to be sealed.
    void put(const fs::path& bundle, bool sealed) const {
        fs::create_directories(bundle);
        std::string text = config;
        if (sealed)
            if (auto all = nlohmann::json::parse(config, nullptr, false); all.is_object()) {
                if (!all.contains("files") || !all["files"].is_object()) all["files"] = nlohmann::json::object();
                for (const auto& [name, content] : {std::pair("geometry.xml", &geometry), std::pair("weights.safetensors", &weights)})
                    all["files"][name] = caloforge::detail::sha256(reinterpret_cast<const unsigned char*>(content->data()), content->size());
                text = all.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
            }
        write(bundle / "config.json", text);
        write(bundle / "geometry.xml", geometry);
        write(bundle / "weights.safetensors", weights);
    }
};
