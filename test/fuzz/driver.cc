// Where there is no libFuzzer (g++): feeds a fuzz target the corpus, then random bytes. Understands
// libFuzzer's -runs=N and -seed=N, files and folders.
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <iterator>
#include <random>
#include <string>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

namespace {

using Bytes = std::vector<std::uint8_t>;

Bytes read(const std::filesystem::path& path) {
    std::ifstream file(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

// A copy of a known input with a few bytes changed, or bytes without a model.
Bytes make(std::mt19937_64& random, const std::vector<Bytes>& corpus) {
    Bytes bytes;
    if (!corpus.empty() && random() % 2 == 0) {
        bytes = corpus[random() % corpus.size()];
        for (auto changes = random() % 8; changes > 0 && !bytes.empty(); changes--) {
            bytes[random() % bytes.size()] = static_cast<std::uint8_t>(random());
        }
    } else {
        bytes.resize(random() % 256);
        for (auto& byte : bytes) {
            byte = static_cast<std::uint8_t>(random());
        }
    }
    return bytes;
}

} // namespace

int main(int argc, char** argv) {
    unsigned long runs = 100'000;
    unsigned long seed = std::random_device{}();
    std::vector<Bytes> corpus;
    for (int i = 1; i < argc; i++) {
        const std::string argument = argv[i];
        if (argument.rfind("-runs=", 0) == 0) {
            runs = std::stoul(argument.substr(6));
        } else if (argument.rfind("-seed=", 0) == 0) {
            seed = std::stoul(argument.substr(6));
        } else if (std::filesystem::is_directory(argument)) {
            for (const auto& entry : std::filesystem::directory_iterator(argument)) {
                corpus.push_back(read(entry.path()));
            }
        } else {
            corpus.push_back(read(argument));
        }
    }
    std::cout << corpus.size() << " inputs of the corpus, then " << runs << " random ones, -seed=" << seed << std::endl;
    for (const Bytes& bytes : corpus) {
        LLVMFuzzerTestOneInput(bytes.data(), bytes.size());
    }
    std::mt19937_64 random(seed);
    for (unsigned long run = 0; run < runs; run++) {
        const Bytes bytes = make(random, corpus);
        LLVMFuzzerTestOneInput(bytes.data(), bytes.size());
    }
}
